-- Writes events to the outbox in their order, for functions of others that write what happened together with its events: what `batch` gathered is given to it.
create function event_log_put(events jsonb) returns void language sql volatile as $$
  insert into event_log_outbox (uid, type, source, subject, principal, trace, time, data)
  select e.uid, e.type, e.source, e.subject, e.principal, e.trace, e.time, e.data
  from rows from (
    jsonb_to_recordset(events) as (uid uuid, type text, source text, subject text, principal text, trace text, "time" timestamptz, data text)
  ) with ordinality as e (uid, type, source, subject, principal, trace, "time", data, n)
  order by e.n
$$;
