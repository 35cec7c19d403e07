create table approvals_approvals (
  seq bigint generated always as identity unique,
  id text primary key,
  run_id text not null,
  owner text not null,
  kind text not null,
  call_id text,
  title text not null,
  arguments jsonb not null,
  arguments_hash text not null,
  question text,
  choices jsonb not null,
  state text not null,
  answer text,
  comment text,
  decided_by text,
  decided_via text,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  decided_at timestamptz
);
create index approvals_of_run on approvals_approvals (run_id, seq);
create index approvals_of_owner on approvals_approvals (owner, seq desc);
create index approvals_pending on approvals_approvals (expires_at) where state = 'pending';
