-- The version of the key that asked for it; null = of a credential that has none.
alter table events_tickets add column version integer;
