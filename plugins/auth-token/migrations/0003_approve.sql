-- Keys of persons that were made with the scopes nobody chose decide approvals, as those do that are made from now on.
update auth_token_keys set scopes = '["rpc", "api", "approve"]' where kind in ('user', 'device') and scopes = '["rpc", "api"]';
