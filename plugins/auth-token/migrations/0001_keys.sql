create table auth_token_keys (
  id text primary key,
  prefix text not null unique,
  hash text not null,
  name text not null,
  kind text not null,
  owner text,
  scopes jsonb not null,
  quota_daily integer,
  created_at timestamptz not null,
  created_by text not null,
  expires_at timestamptz,
  expired_at timestamptz,
  rotated_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
create index auth_token_keys_created on auth_token_keys (created_at desc, id desc);
create index auth_token_keys_expiry on auth_token_keys (expires_at) where expires_at is not null and expired_at is null and revoked_at is null;
