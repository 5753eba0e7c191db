-- One text for SQLite and PostgreSQL. Instants are microseconds since 1970 UTC. Names of people rest
-- only in the sealed columns of person and child. Every table of a centre begins its key with centre.

create table division (
    code text not null primary key,
    name text not null
);

create table watch_room (
    id uuid not null primary key,
    name text not null
);

create table receiver (
    id uuid not null primary key,
    division text not null references division (code),
    agency text not null check (agency in ('police', 'fire', 'monitoring')),
    name text not null,
    protocol text not null,
    settings text not null,
    next_number bigint not null default 1,
    last_reply_at bigint,
    silent_since_at bigint
);

create table centre (
    id uuid not null primary key,
    division text not null references division (code),
    watch_room uuid not null references watch_room (id),
    name text not null,
    short_name text not null,
    address text not null,
    filing_no text not null,
    time_zone text not null,
    fire_needs_verification boolean not null,
    credential_key bytea not null,
    config_version bigint not null
);

create table receiver_account (
    centre uuid not null references centre (id),
    receiver uuid not null references receiver (id),
    account text not null,
    primary key (centre, receiver)
);

create table zone (
    centre uuid not null references centre (id),
    id text not null,
    name text not null,
    primary key (centre, id)
);

create table gateway (
    centre uuid not null references centre (id),
    id uuid not null unique,
    name text not null,
    last_seen_at bigint,
    config_sent bigint not null default 0,
    config_applied bigint not null default 0,
    primary key (centre, id)
);

create table gateway_key (
    fingerprint bytea not null primary key,
    centre uuid not null references centre (id),
    gateway uuid not null references gateway (id),
    state text not null check (state in ('active', 'previous', 'revoked')),
    issued_at bigint not null
);

create table mqtt_credential (
    centre uuid not null references centre (id),
    gateway uuid not null references gateway (id),
    username text not null,
    secret_sha256 text not null,
    publish text not null,
    primary key (centre, gateway, username)
);

create table enrolment (
    centre uuid not null references centre (id),
    device text not null,
    point text not null,
    gateway uuid not null references gateway (id),
    body text not null,
    primary key (centre, device, point)
);

create table person (
    id uuid not null primary key,
    sealed bytea not null
);

create table login (
    person uuid not null primary key references person (id),
    username text not null unique,
    password_hash text not null
);

create table child (
    centre uuid not null references centre (id),
    id uuid not null unique,
    class_group text not null,
    sealed bytea not null,
    primary key (centre, id)
);

create table credential (
    centre uuid not null references centre (id),
    hidden bytea not null,
    holder_kind text not null check (holder_kind in ('child', 'guardian', 'pickup', 'staff', 'visitor')),
    holder uuid not null,
    from_at bigint,
    until_at bigint,
    primary key (centre, hidden)
);

create table role_grant (
    person uuid not null references person (id),
    role text not null check (role in ('guardian', 'carer', 'director', 'installer', 'operator', 'shift_lead', 'regulator', 'admin')),
    -- what the role reaches: a child, centre, watch room or division by its text form; '' for the deployment
    reach text not null,
    centre uuid references centre (id),
    child uuid references child (id),
    watch_room uuid references watch_room (id),
    from_at bigint not null,
    until_at bigint,
    primary key (person, role, reach)
);

create table session (
    token_hash bytea not null primary key,
    person uuid not null references person (id),
    created_at bigint not null,
    expires_at bigint not null
);

-- Every authentic record of a box, whole, whether understood or not (D4).
create table record (
    centre uuid not null references centre (id),
    gateway uuid not null references gateway (id),
    epoch uuid not null,
    lane text not null check (lane in ('life_safety', 'supervisory', 'telemetry')),
    seq bigint not null,
    to_seq bigint not null,
    event uuid,
    kind text,
    device text,
    point text,
    received_at bigint,
    committed_at bigint not null,
    body bytea not null,
    -- 32 bytes of chance, so that a digest does not give a short body away (D9)
    salt bytea not null,
    -- journal number of the entry or batch that chains it; null until chained
    chained bigint,
    primary key (centre, gateway, epoch, lane, seq)
);
create index record_unchained on record (centre, lane, committed_at) where chained is null;
create index record_chained on record (centre, chained);
create index record_event on record (centre, event);

-- A second record that claims a number already taken (D4): stored, faulted, never dropped.
create table record_fork (
    centre uuid not null references centre (id),
    gateway uuid not null references gateway (id),
    epoch uuid not null,
    lane text not null,
    seq bigint not null,
    digest bytea not null,
    committed_at bigint not null,
    body bytea not null,
    primary key (centre, gateway, epoch, lane, seq, digest)
);

create table lane_progress (
    centre uuid not null references centre (id),
    gateway uuid not null references gateway (id),
    epoch uuid not null,
    lane text not null,
    through_seq bigint not null,
    ranges text not null,
    -- last number the box says it used, told when a later epoch began (D4); 0 = not told
    expected_seq bigint not null default 0,
    primary key (centre, gateway, epoch, lane)
);

create table journal_head (
    centre uuid not null primary key,
    seq bigint not null,
    hash bytea not null
);

create table journal (
    centre uuid not null,
    seq bigint not null,
    at bigint not null,
    v bigint not null,
    kind text not null,
    refs text not null,
    -- the case, as refs names it: for timelines
    incident uuid,
    suite text not null,
    salt bytea,
    body bytea,
    body_digest bytea not null,
    hash bytea not null,
    erased_under text,
    primary key (centre, seq)
);

create index journal_incident on journal (centre, incident, seq) where incident is not null;

create table journal_person (
    person uuid not null,
    centre uuid not null,
    seq bigint not null,
    primary key (person, centre, seq)
);

create table incident (
    centre uuid not null references centre (id),
    id uuid not null unique,
    hazard text not null check (hazard in ('panic', 'fire', 'intrusion', 'missing_child', 'technical')),
    state text not null check (state in ('open', 'acknowledged', 'closed')),
    priority bigint not null,
    -- shown to operators: not closed, or closed with a cancel that did not get through
    on_board boolean not null,
    opened_at bigint not null,
    deadline_at bigint,
    version bigint not null,
    body text not null,
    closed_at bigint,
    -- set aside: neither body nor journal can be read; another case may be open beside it
    unreadable boolean not null default false,
    primary key (centre, id)
);
create index incident_board on incident (centre) where on_board;
create index incident_latest on incident (centre, hazard, opened_at);
create unique index incident_one_open on incident (centre, hazard)
    where state <> 'closed' and not unreadable;
create index incident_unreadable on incident (centre) where unreadable;
create index incident_due on incident (deadline_at) where deadline_at is not null;

-- Every activation and clearing stored in a case, coalesced ones too.
create table incident_event (
    centre uuid not null references centre (id),
    incident uuid not null references incident (id),
    seq bigint not null,
    event uuid not null,
    vendor_id text,
    device text,
    point text,
    kind text not null,
    state text not null,
    received_at bigint not null,
    committed_at bigint not null,
    primary key (centre, incident, seq)
);

-- What the dispatcher looks for; the case's body holds the request itself.
create table dispatch (
    centre uuid not null references centre (id),
    id uuid not null unique,
    incident uuid not null references incident (id),
    receiver uuid not null references receiver (id),
    step text not null,
    purpose text not null check (purpose in ('order', 'update', 'cancel')),
    state text not null check (state in ('queued', 'sending', 'unanswered', 'received', 'accepted', 'underway', 'on_scene', 'finished', 'refused', 'exhausted', 'cancelled')),
    urgency bigint not null,
    queued_at bigint not null,
    due_at bigint,
    primary key (centre, id)
);
create unique index dispatch_step on dispatch (incident, step);
create index dispatch_due on dispatch (receiver, urgency, due_at) where due_at is not null;

create table attempt (
    centre uuid not null references centre (id),
    dispatch uuid not null references dispatch (id),
    n bigint not null,
    target text not null,
    account text not null,
    number bigint not null,
    frame bytea not null,
    begun_at bigint not null,
    ended_at bigint,
    outcome text,
    reply bytea,
    primary key (centre, dispatch, n)
);

create table alarm (
    centre uuid not null references centre (id),
    device text not null,
    point text not null,
    body text not null,
    version bigint not null,
    primary key (centre, device, point)
);

create table presence (
    centre uuid not null references centre (id),
    child uuid not null references child (id),
    body text not null,
    version bigint not null,
    primary key (centre, child)
);

create table movement (
    centre uuid not null references centre (id),
    child uuid not null references child (id),
    event uuid not null,
    kind text not null,
    at bigint not null,
    order_hlc bigint not null,
    vendor_id text,
    body text not null,
    primary key (centre, child, event)
);

-- One row, written over and over: whether the store takes writes.
create table store_probe (
    id bigint not null primary key,
    at bigint not null
);
