alter table chat_messages add column images jsonb;
