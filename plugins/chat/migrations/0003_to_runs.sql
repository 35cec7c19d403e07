-- Conversations belong to runs from here on: what was said goes there, once.
insert into runs_sessions (id, principal, key, agent, title, model, channel, created_at, updated_at)
  select id, principal, key, 'default', title, model, channel, created_at, updated_at from chat_sessions
  on conflict do nothing;
insert into runs_messages (session_id, run_id, role, text, images, model, finish_reason, created_at)
  select m.session_id, 'run_before', m.role, m.content, m.images, m.model, m.finish_reason, m.created_at
  from chat_messages m join runs_sessions s on s.id = m.session_id order by m.id;
drop table chat_messages;
drop table chat_sessions;
