-- Durable events wait here until the appender has given them their id. Rows live for milliseconds.
create table portico_outbox (
  seq bigint generated always as identity primary key,
  uid uuid not null,
  type text not null,
  source text not null,
  subject text,
  principal text,
  trace text,
  time timestamptz not null,
  data text not null
);
alter table portico_outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The log. id = ms since the epoch × 10⁶ + n, strictly rising in the order of the appends.
create table portico_events (
  id bigint primary key,
  uid uuid not null,
  type text not null,
  source text not null,
  subject text,
  principal text,
  trace text,
  time timestamptz not null,
  data text not null
);

-- One row: the highest id that retention has removed.
create table portico_log (
  one boolean primary key default true check (one),
  trimmed bigint not null default 0
);
insert into portico_log default values;

-- Where each durable subscription is, and which process holds it until when; epoch rises with each change of hands.
create table portico_cursors (
  owner text not null,
  name text not null,
  type text not null,
  position bigint not null,
  holder uuid,
  held_until timestamptz not null,
  epoch bigint not null default 0,
  primary key (owner, name, type)
);
alter table portico_cursors set (fillfactor = 50);

-- Events that a durable subscription could not handle.
create table portico_dead_letters (
  owner text not null,
  name text not null,
  type text not null,
  event bigint not null,
  uid uuid not null,
  data text not null,
  attempts integer not null,
  error text not null,
  at timestamptz not null default now(),
  primary key (owner, name, type, event)
);

-- Moves the oldest rows of the outbox to the log. Each statement of a volatile function sees what was committed before it began, so what stands
-- behind the lock sees every id given before. Returns the last id before the move, and the moved rows.
create function portico_append(max_rows integer, max_bytes bigint)
returns table (last bigint, id bigint, uid uuid, type text, source text, subject text, principal text, trace text, "time" timestamptz, data text)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  before bigint;
  first bigint;
begin
  perform pg_advisory_xact_lock(5788, 1);
  select coalesce((select max(e.id) from portico_events e), (select l.trimmed from portico_log l)) into before;
  first := greatest(before + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint * 1000000);
  return query
    with waiting as (
      select o.seq, sum(octet_length(o.data)) over (order by o.seq) - octet_length(o.data) as ahead
      from (select seq, data from portico_outbox order by seq limit max_rows) o
    ), moved as (
      delete from portico_outbox o using waiting w where o.seq = w.seq and w.ahead < max_bytes returning o.*
    ), numbered as (
      select first + row_number() over (order by m.seq) - 1 as id, m.* from moved m
    ), logged as (
      insert into portico_events (id, uid, type, source, subject, principal, trace, time, data)
      select n.id, n.uid, n.type, n.source, n.subject, n.principal, n.trace, n.time, n.data from numbered n order by n.id
    )
    select before, n.id, n.uid, n.type, n.source, n.subject, n.principal, n.trace, n.time, n.data from numbered n order by n.id;
  if found then
    perform pg_notify('portico_events', (select max(e.id)::text from portico_events e));
  end if;
end
$$;
