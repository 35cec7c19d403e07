create table auth_pairing_codes (
  id smallint primary key check (id = 1),
  salt text not null,
  hash text not null,
  attempts smallint not null default 0,
  expires_at timestamptz not null,
  used_at timestamptz
);
