create table events_tickets (
  hash text primary key,
  path text not null,
  principal jsonb not null,
  via text not null,
  epoch bigint not null default 0,
  created_at timestamptz not null,
  expires_at timestamptz not null
);
create index events_tickets_via on events_tickets (via);
create index events_tickets_expiry on events_tickets (expires_at);
