create table chat_sessions (
  id text primary key,
  principal text not null,
  key text not null,
  title text not null,
  model text not null,
  channel text not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  unique (principal, key)
);
create index chat_sessions_updated on chat_sessions (principal, updated_at desc);
create table chat_messages (
  id bigint generated always as identity primary key,
  session_id text not null references chat_sessions (id) on delete cascade,
  role text not null,
  content text not null,
  model text,
  finish_reason text,
  created_at timestamptz not null
);
create index chat_messages_session on chat_messages (session_id, id);
