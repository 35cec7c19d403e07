-- Rises with each change after which what was opened with the key must end.
alter table auth_token_keys add column version integer not null default 0;
