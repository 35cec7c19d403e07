-- The event a durable subscription fails to handle, and how often it has tried: both outlive the process.
alter table event_log_cursors add column failing bigint, add column attempts integer not null default 0;
