create table agents_agents (
  id text primary key,
  spec jsonb not null,
  created_by text not null,
  created_at timestamptz not null,
  updated_at timestamptz not null
);
