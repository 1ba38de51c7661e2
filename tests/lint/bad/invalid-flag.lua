#!lua name=carts
redis.register_function{
  function_name = 'clear',
  callback = function(keys) return redis.call('DEL', keys[1]) end,
  flags = { 'allow-oom', 'nowrites' }, -- expect: invalid-flag
}
