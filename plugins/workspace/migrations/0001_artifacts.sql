create table workspace_artifacts (
  id text primary key,
  run_id text not null,
  path text not null,
  state text not null,
  before_hash text,
  after_hash text,
  size integer not null,
  is_binary boolean not null,
  diff text not null,
  before_content bytea,
  after_content bytea,
  mode integer,
  created_at timestamptz not null,
  unique (run_id, path)
);
