create table runs_sessions (
  id text primary key,
  principal text not null,
  key text not null,
  agent text not null,
  title text not null,
  model text not null,
  channel text not null,
  ttl bigint,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  unique (principal, key)
);
create index runs_sessions_latest on runs_sessions (principal, updated_at desc);
create index runs_sessions_idle on runs_sessions (updated_at) where ttl is not null;

create table runs_runs (
  seq bigint generated always as identity unique,
  id text primary key,
  principal_id text not null,
  principal jsonb not null,
  session_id text not null references runs_sessions on delete cascade,
  parent_id text,
  depth integer not null,
  agent text not null,
  spec jsonb not null,
  input jsonb not null,
  state text not null,
  priority integer not null,
  start_at timestamptz not null,
  max_concurrent integer,
  is_interactive boolean not null,
  node text,
  lease_owner text,
  lease_until timestamptz,
  lease_epoch integer not null default 0,
  last_seq integer not null default 0,
  worked bigint not null default 0,
  model text not null,
  result text,
  finish_reason text,
  error jsonb,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  cost double precision,
  steps integer not null default 0,
  idempotency_key text,
  request_hash text,
  metadata jsonb not null,
  created_at timestamptz not null,
  started_at timestamptz,
  ended_at timestamptz
);
create unique index runs_runs_idempotency on runs_runs (principal_id, idempotency_key) where idempotency_key is not null;
create index runs_runs_queue on runs_runs (principal_id, priority desc, seq) where state = 'queued';
create index runs_runs_session on runs_runs (session_id, seq);
create index runs_runs_active on runs_runs (session_id, seq) where state in ('queued', 'running', 'awaiting_approval');
create index runs_runs_running on runs_runs (principal_id) where state = 'running';
create index runs_runs_agent on runs_runs (agent) where state = 'running';
create index runs_runs_owner on runs_runs (principal_id, seq desc);
create index runs_runs_parent on runs_runs (parent_id) where parent_id is not null;
create index runs_runs_ended on runs_runs (ended_at) where ended_at is not null;

create table runs_dependencies (
  run_id text not null references runs_runs on delete cascade,
  depends_on text not null,
  primary key (run_id, depends_on)
);
create index runs_dependencies_of on runs_dependencies (depends_on);

create table runs_entries (
  run_id text not null references runs_runs on delete cascade,
  seq integer not null,
  key text not null,
  type text not null,
  data jsonb not null,
  at timestamptz not null,
  primary key (run_id, seq),
  unique (run_id, key)
);

create table runs_messages (
  id bigint generated always as identity primary key,
  session_id text not null references runs_sessions on delete cascade,
  run_id text not null,
  role text not null,
  text text not null,
  images jsonb,
  model text,
  finish_reason text,
  created_at timestamptz not null
);
create index runs_messages_session on runs_messages (session_id, id desc);

create table runs_shares (
  principal_id text primary key,
  served bigint not null default 0
);
