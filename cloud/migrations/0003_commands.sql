-- What people ask boxes to do (D6), and what is out of full service because of it.

-- One row a box: a test of a whole centre is one command to each of its boxes, under one id.
create table command (
    centre uuid not null references centre (id),
    id uuid not null,
    gateway uuid not null references gateway (id),
    person uuid not null references person (id),
    act text not null,
    -- the point or door it is about
    device text,
    point text,
    given_at bigint not null,
    expires_at bigint not null,
    state text not null check (state in ('given', 'sent', 'done', 'refused', 'expired')),
    -- when it was first handed to a connection of the box
    sent_at bigint,
    answered_at bigint,
    -- why the box did not do it
    why text,
    -- the event that answered it
    fact uuid,
    primary key (centre, id, gateway)
);
create index command_waiting on command (gateway) where state in ('given', 'sent');
create index command_due on command (expires_at) where state in ('given', 'sent');
create index command_newest on command (centre, given_at);
create index command_point on command (centre, device, point, given_at) where device is not null;

-- Test sessions and bypasses that a box has begun; the command that began one is its name.
create table absence (
    centre uuid not null references centre (id),
    gateway uuid not null references gateway (id),
    id uuid not null,
    person uuid not null,
    -- what is out, as the box said; 'null' for one whose end came before its begin
    what text not null,
    -- whether the cloud's half holds: it gave the command itself, or a person with the right did at the box
    recognised boolean not null,
    -- by the cloud's clock, from the receipt
    begun_at bigint not null,
    until_at bigint not null,
    ended_at bigint,
    -- points that rang in it, and its hazard
    heard text not null,
    primary key (centre, gateway, id)
);
create index absence_in_force on absence (until_at) where ended_at is null;

-- Rises with each change of a centre's commands and absences: for streams.
create table service_head (
    centre uuid not null primary key references centre (id),
    version bigint not null
);
