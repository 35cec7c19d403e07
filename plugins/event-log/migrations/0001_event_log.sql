-- Durable events wait here until the appender has given them their id. Rows live for milliseconds.
create table event_log_outbox (
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
alter table event_log_outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The log. id = ms since the epoch × 10⁶ + n, strictly rising in the order of the appends.
create table event_log_events (
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
create table event_log_state (
  one boolean primary key default true check (one),
  trimmed bigint not null default 0
);
insert into event_log_state default values;

-- Where each durable subscription is, and which process holds it until when; epoch rises with each change of hands.
create table event_log_cursors (
  owner text not null,
  name text not null,
  type text not null,
  position bigint not null,
  holder uuid,
  held_until timestamptz not null,
  epoch bigint not null default 0,
  primary key (owner, name, type)
);
alter table event_log_cursors set (fillfactor = 50);

-- Events that a durable subscription could not handle.
create table event_log_dead_letters (
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
create function event_log_append(max_rows integer, max_bytes bigint)
returns table (last bigint, id bigint, uid uuid, type text, source text, subject text, principal text, trace text, "time" timestamptz, data text)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  before bigint;
  first bigint;
begin
  perform pg_advisory_xact_lock(5788, 1);
  select coalesce((select max(e.id) from event_log_events e), (select l.trimmed from event_log_state l)) into before;
  first := greatest(before + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint * 1000000);
  return query
    with waiting as (
      select o.seq, sum(octet_length(o.data)) over (order by o.seq) - octet_length(o.data) as ahead
      from (select seq, data from event_log_outbox order by seq limit max_rows) o
    ), moved as (
      delete from event_log_outbox o using waiting w where o.seq = w.seq and w.ahead < max_bytes returning o.*
    ), numbered as (
      select first + row_number() over (order by m.seq) - 1 as id, m.* from moved m
    ), logged as (
      insert into event_log_events (id, uid, type, source, subject, principal, trace, time, data)
      select n.id, n.uid, n.type, n.source, n.subject, n.principal, n.trace, n.time, n.data from numbered n order by n.id
    )
    select before, n.id, n.uid, n.type, n.source, n.subject, n.principal, n.trace, n.time, n.data from numbered n order by n.id;
  if found then
    perform pg_notify('event_log', (select max(e.id)::text from event_log_events e));
  end if;
end
$$;

-- A page of the log after a position: at most 500 events and, but for one event, 256 KiB of data, looked for in at most 5,000 rows. Every row tells how
-- far the page reached (null = the log ends before) and what retention has removed; without events it is one row with a null id.
create function event_log_page(after bigint, of_types text[], for_principal text)
returns table (reached bigint, trimmed bigint, id bigint, uid uuid, type text, source text, subject text, principal text, trace text, "time" timestamptz, data text)
language sql stable as $$
  with scanned as (
    select * from event_log_events where id > after order by id limit 5000
  ), matching as (
    select *, sum(octet_length(data)) over (order by id) - octet_length(data) as ahead from scanned
    where (of_types is null or type = any (of_types)) and (for_principal is null or principal is null or principal = for_principal) order by id limit 501
  ), page as (
    select * from matching where ahead < 262144 order by id limit 500
  )
  select case when (select count(*) from page) = (select count(*) from matching) then (select max(id) from scanned) else (select max(id) from page) end,
    (select trimmed from event_log_state), p.id, p.uid, p.type, p.source, p.subject, p.principal, p.trace, p.time, p.data
  from (select 1) as one left join page p on true order by p.id
$$;

-- The newest events, newest first: at most a megabyte, looked for in the newest 50,000 rows.
create function event_log_newest(at_most integer, of_types text[], for_principal text) returns setof event_log_events language sql stable as $$
  with found as (
    select * from (select * from event_log_events order by id desc limit 50000) as newest
    where (of_types is null or type = any (of_types)) and (for_principal is null or principal is null or principal = for_principal) order by id desc limit at_most
  ), page as (
    select *, sum(octet_length(data)) over (order by id desc) - octet_length(data) as ahead from found
  )
  select id, uid, type, source, subject, principal, trace, time, data from page where ahead < 1048576 order by id desc
$$;

-- Up to which id the log is too old by the database's clock or, with counting, beyond its size.
create function event_log_bound(max_age_ms bigint, max_rows integer, counting boolean) returns bigint language sql volatile as $$
  select greatest(
    ((extract(epoch from clock_timestamp()) * 1000)::bigint - max_age_ms) * 1000000,
    case when counting then (select id from event_log_events order by id desc offset max_rows limit 1) end)
$$;

-- Removes at most 5,000 of the oldest events up to the bound; the newest one stays. Returns how many.
create function event_log_trim(bound bigint) returns integer language sql volatile as $$
  with gone as (
    delete from event_log_events where id in (
      select id from event_log_events where id <= bound and id < (select max(id) from event_log_events) order by id limit 5000
    ) returning id
  ), noted as (
    update event_log_state set trimmed = greatest(trimmed, (select max(id) from gone)) where exists (select from gone)
  )
  select count(*)::integer from gone
$$;

-- Takes the cursors that nobody holds any more, making them where they are new: at the position, or at the oldest event. Gives those taken.
create function event_log_take(owners text[], names text[], types text[], positions bigint[], holders uuid[], lease_ms double precision)
returns setof event_log_cursors language sql volatile as $$
  insert into event_log_cursors as c (owner, name, type, position, holder, held_until, epoch)
  select w.owner, w.name, w.type, coalesce(w.position, (select trimmed from event_log_state)), w.holder, clock_timestamp() + lease_ms * interval '1 ms', 1
  from unnest(owners, names, types, positions, holders) as w (owner, name, type, position, holder) order by 1, 2, 3
  on conflict (owner, name, type) do update set holder = excluded.holder, held_until = excluded.held_until, epoch = c.epoch + 1
  where c.holder is null or c.holder = excluded.holder or c.held_until < clock_timestamp()
  returning c.*
$$;

-- Saves positions and prolongs the hold, or lets go. Gives the holders that still held: epochs fence the others off.
create function event_log_hold(holders uuid[], epochs bigint[], positions bigint[], keeps boolean[], lease_ms double precision)
returns setof uuid language sql volatile as $$
  update event_log_cursors c
  set position = h.position, holder = case when h.keep then c.holder end, held_until = clock_timestamp() + lease_ms * interval '1 ms'
  from unnest(holders, epochs, positions, keeps) as h (holder, epoch, position, keep)
  where c.holder = h.holder and c.epoch = h.epoch
  returning h.holder
$$;
