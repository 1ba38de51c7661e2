#!lua flags=nowrites
-- expect-line-1: invalid-shebang
return 1
