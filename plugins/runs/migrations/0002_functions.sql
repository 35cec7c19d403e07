-- What is written together goes to the database in one call: each is a transaction of its own unless the caller has one.

-- Takes a run in: its session, its row, its message, its first entries, its events. `run` and `session` are what submit.ts makes of a submission. `outcome`:
-- `taken` = a run of the principal has this idempotency key; `unknown_session` = there is none of this id; otherwise `begun` (it is held by its submitter) or `queued`.
create function runs_submit(
  run jsonb, principal jsonb, spec jsonb, input jsonb, metadata jsonb, session jsonb, said text, images jsonb, depends_on text[],
  events jsonb, events_if_new jsonb, events_if_begun jsonb)
returns table (outcome text, session_id text, session_key text, is_new boolean, created_ms double precision)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  own text := run->>'principalId';
  run_id text := run->>'id';
  at timestamptz := (run->>'at')::timestamptz;
  begins boolean := false;
  sid text;
  skey text;
  fresh boolean := false;
begin
  if run ? 'idempotencyKey' then
    -- Who comes with the same key at the same time waits here, before anything is locked that the run at work needs.
    perform pg_advisory_xact_lock(hashtextextended(own || ' ' || (run->>'idempotencyKey'), 1768189296));
    if exists (select from runs_runs r where r.principal_id = own and r.idempotency_key = run->>'idempotencyKey') then
      return query select 'taken', null::text, null::text, false, null::double precision;
      return;
    end if;
  end if;

  if (session->>'isId')::boolean then
    update runs_sessions s set model = spec->>'model', updated_at = at, ttl = (session->>'ttl')::bigint
      where s.principal = own and (s.key = session->>'key' or s.id = session->>'key') returning s.id, s.key into sid, skey;
    if sid is null then
      return query select 'unknown_session', null::text, null::text, false, null::double precision;
      return;
    end if;
  else
    insert into runs_sessions as s (id, principal, key, agent, title, model, channel, ttl, created_at, updated_at)
      values (session->>'id', own, session->>'key', spec->>'agent', session->>'title', spec->>'model', session->>'channel', (session->>'ttl')::bigint, at, at)
      on conflict (principal, key) do update set model = excluded.model, updated_at = excluded.updated_at, ttl = excluded.ttl
      returning s.id, s.key into sid, skey;
    fresh := sid = session->>'id';
  end if;

  -- Whoever waited for the session's row comes after who had it.
  if not fresh then
    at := greatest(at, (select r.created_at from runs_runs r where r.session_id = sid order by r.seq desc limit 1));
  end if;

  -- At once only when nothing is before it in its session; one that nobody waits for only when nothing waits at all.
  if run->>'begins' <> 'no' then
    begins := (fresh or not exists (
        select from runs_runs r where r.session_id = sid and r.state in ('queued', 'running', 'awaiting_approval')))
      and (run->>'begins' = 'awaited' or not exists (select from runs_runs r where r.state = 'queued'));
  end if;
  if not begins and (select count(*) from runs_runs r where r.principal_id = own and r.state = 'queued') >= (run->>'maxQueued')::integer then
    raise exception 'too many runs are queued' using errcode = 'PR429';
  end if;

  insert into runs_runs (
      id, principal_id, principal, session_id, agent, spec, input, parent_id, depth, state, priority, model, start_at, max_concurrent, is_interactive, node,
      lease_owner, lease_until, lease_epoch, last_seq, started_at, created_at, metadata, idempotency_key, request_hash)
    values (
      run_id, own, principal, sid, spec->>'agent', spec, input, run->>'parentId', (run->>'depth')::integer, case when begins then 'running' else 'queued' end,
      (run->>'priority')::integer, spec->>'model', coalesce((run->>'startAt')::timestamptz, clock_timestamp()), (spec->>'maxConcurrent')::integer,
      (run->>'isInteractive')::boolean, case when (run->>'isInteractive')::boolean then run->>'owner' end,
      case when begins then run->>'owner' end,
      case when begins or (run->>'isInteractive')::boolean then clock_timestamp() + (run->>'lease')::integer * interval '1 ms' end,
      begins::integer, 1 + begins::integer, case when begins then at end, at, metadata, run->>'idempotencyKey', run->>'requestHash');
  if depends_on is not null then
    insert into runs_dependencies (run_id, depends_on) select run_id, d from unnest(depends_on) d;
  end if;
  insert into runs_messages (session_id, run_id, role, text, images, created_at) values (sid, run_id, 'user', said, images, at);
  if not fresh then
    perform runs_drop_oldest(sid, (session->>'maxMessages')::integer);
  end if;
  insert into runs_entries (run_id, seq, key, type, data, at) values (run_id, 1, 'queued', 'queued', '{}', at);
  if begins then
    insert into runs_entries (run_id, seq, key, type, data, at) values (run_id, 2, 'started:1', 'started', '{"epoch": 1, "isResumed": false}', at);
    if run->>'begins' = 'free' then
      perform runs_serve(own);
    end if;
  end if;
  perform event_log_put(case when fresh then events_if_new else '[]' end || events || case when begins then events_if_begun else '[]' end);
  return query select case when begins then 'begun' else 'queued' end, sid, skey, fresh, (extract(epoch from at) * 1000)::double precision;
end
$$;

-- A session keeps its newest messages.
create function runs_drop_oldest(of_session text, max_messages integer) returns void language sql volatile as $$
  delete from runs_messages where session_id = of_session
    and id <= (select id from runs_messages where session_id = of_session order by id desc limit 1 offset max_messages)
$$;

-- Notes that a principal had its turn.
create function runs_serve(who text) returns void language sql volatile as $$
  insert into runs_shares (principal_id, served) values (who, (select coalesce(max(served), 0) + 1 from runs_shares))
    on conflict (principal_id) do update set served = excluded.served
$$;

-- A run that waits goes on. Locked first, so that one which is just about to wait sees what it waited for.
create function runs_wake(which text) returns void language plpgsql volatile as $$
begin
  perform 1 from runs_runs where id = which for update;
  update runs_runs set state = 'queued' where id = which and state = 'awaiting_approval';
end
$$;

-- Writes facts of a run for whoever holds it, with what changes of its row, its end, and its events; renews the lease. `known`: the entries that the holder knows
-- of; `if_quiet`: only if there are no others. `held_epoch` null = whoever holds it loses it. `outcome`: `written`; `repeated` = it was written before; `heard` = there are
-- others; `lost` = it is held no longer, or over.
create function runs_write(
  which text, held_epoch integer, known integer, if_quiet boolean, is_repeated boolean, at timestamptz, lease_ms integer,
  facts jsonb, change jsonb, last_word jsonb, events jsonb)
returns table (outcome text, last_seq integer)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  n integer := jsonb_array_length(facts);
  seq_now integer;
  sid text;
  parent text;
begin
  -- The answer to a commit may be lost though it was done.
  if is_repeated and n > 0 and n = (
      select count(*) from runs_entries e join jsonb_array_elements(facts) f on f->>'key' = e.key where e.run_id = which) then
    return query select 'repeated', r.last_seq from runs_runs r where r.id = which;
    return;
  end if;
  update runs_runs r set
      last_seq = r.last_seq + n,
      lease_epoch = r.lease_epoch + (held_epoch is null)::integer,
      lease_until = case when change ? 'state' then null else clock_timestamp() + lease_ms * interval '1 ms' end,
      lease_owner = case when change ? 'state' then null else r.lease_owner end,
      state = coalesce(change->>'state', r.state),
      is_interactive = r.is_interactive and coalesce(change->>'state', '') <> 'awaiting_approval',
      node = case when change->>'state' = 'awaiting_approval' then null else r.node end,
      steps = r.steps + coalesce((change->>'steps')::integer, 0),
      worked = r.worked + coalesce((change->>'worked')::bigint, 0),
      model = coalesce(change->>'model', r.model),
      input_tokens = coalesce((change->>'inputTokens')::bigint, r.input_tokens),
      output_tokens = coalesce((change->>'outputTokens')::bigint, r.output_tokens),
      cost = case when change ? 'cost' then (change->>'cost')::double precision else r.cost end,
      result = case when change ? 'result' then change->>'result' else r.result end,
      finish_reason = coalesce(change->>'finishReason', r.finish_reason),
      error = case when change ? 'error' then change->'error' else r.error end,
      ended_at = coalesce((change->>'endedAt')::timestamptz, r.ended_at)
    where r.id = which and (not if_quiet or r.last_seq = known)
      and case when held_epoch is null then r.state in ('queued', 'running', 'awaiting_approval') else r.lease_epoch = held_epoch and r.state = 'running' end
    returning r.last_seq, r.session_id, r.parent_id into seq_now, sid, parent;
  if seq_now is null then
    return query select case when if_quiet and exists (
        select from runs_runs r where r.id = which and r.lease_epoch = held_epoch and r.state = 'running' and r.last_seq > known)
      then 'heard' else 'lost' end, 0;
    return;
  end if;
  insert into runs_entries (run_id, seq, key, type, data, at)
    select which, seq_now - n + f.place::integer, f.fact->>'key', f.fact->>'type', f.fact->'data', at
    from jsonb_array_elements(facts) with ordinality as f (fact, place);
  if last_word is not null then
    if last_word ? 'text' then
      insert into runs_messages (session_id, run_id, role, text, model, finish_reason, created_at)
        values (sid, which, 'assistant', last_word->>'text', last_word->>'model', last_word->>'finishReason', at);
      perform runs_drop_oldest(sid, (last_word->>'maxMessages')::integer);
    end if;
    update runs_sessions s set updated_at = at where s.id = sid;
    if parent is not null then
      perform runs_wake(parent);
    end if;
  end if;
  if jsonb_array_length(events) > 0 then
    perform event_log_put(events);
  end if;
  return query select 'written', seq_now;
end
$$;

-- Gives the run whose turn it is to a process: the highest priority first, then the principal with the fewest at work, then the one that was served longest ago. Not
-- before its time, its dependencies and the runs before it in its session; not over its agent's cap. `only_children`: only runs that somebody at work or at hand waits for.
create function runs_claim(who text, lease_ms integer, only_children boolean) returns table (id text, epoch integer)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  chosen text;
  whose text;
  taken integer;
begin
  if not exists (select from runs_runs where state = 'queued') then
    return;
  end if;
  -- In the whole installation one at a time: caps and turns are exact. What stands behind the lock sees every claim before it.
  perform pg_advisory_xact_lock(1920298611);
  with recursive waiting as (
    (select q.principal_id from runs_runs q where q.state = 'queued' order by q.principal_id limit 1)
    union all
    select (select q.principal_id from runs_runs q where q.state = 'queued' and q.principal_id > w.principal_id order by q.principal_id limit 1)
      from waiting w where w.principal_id is not null)
  select r.id, w.principal_id into chosen, whose from waiting w
    left join runs_shares s on s.principal_id = w.principal_id
    cross join lateral (
      select q.id, q.priority, q.seq from runs_runs q
      where q.principal_id = w.principal_id and q.state = 'queued' and q.start_at <= clock_timestamp()
        and (q.node is null or q.node = who)
        and (not only_children or q.depth > 0 or q.node = who)
        and not exists (
          select from runs_runs o
          where o.session_id = q.session_id and o.seq < q.seq and o.state in ('queued', 'running', 'awaiting_approval'))
        and not exists (
          select from runs_dependencies d left join runs_runs o on o.id = d.depends_on
          where d.run_id = q.id and o.state is distinct from 'completed')
        and (q.max_concurrent is null or q.max_concurrent > (select count(*) from runs_runs a where a.agent = q.agent and a.state = 'running'))
      order by q.priority desc, q.seq limit 1) r
    order by r.priority desc, (select count(*) from runs_runs b where b.principal_id = w.principal_id and b.state = 'running'), s.served nulls first, r.seq
    limit 1;
  if chosen is null then
    return;
  end if;
  update runs_runs r set state = 'running', lease_owner = who, lease_until = clock_timestamp() + lease_ms * interval '1 ms', lease_epoch = r.lease_epoch + 1,
      started_at = coalesce(r.started_at, clock_timestamp())
    where r.id = chosen and r.state = 'queued' returning r.lease_epoch into taken;
  if taken is null then
    return;
  end if;
  perform runs_serve(whose);
  -- What was said to a run that waited stands behind the answers it waited for.
  if not exists (select from runs_entries e where e.run_id = chosen and e.type = 'started') then
    with moved as (delete from runs_messages m where m.run_id = chosen returning m.*)
    insert into runs_messages (session_id, run_id, role, text, images, model, finish_reason, created_at)
      select session_id, run_id, role, text, images, model, finish_reason, created_at from moved order by moved.id;
  end if;
  return query select chosen, taken;
end
$$;
