-- How a person logs in on the page of their centre's boxes: never with the password of the cloud.
create table box_login (
    person uuid not null primary key references person (id),
    -- what they type and are called there
    sealed bytea not null,
    pin_argon2 text not null
);
