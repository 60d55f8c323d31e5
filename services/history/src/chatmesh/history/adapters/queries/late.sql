-- What `append_fenced` says besides: inputs that came too late.
UNION ALL
SELECT
    n,
    0,
    0,
    '',
    NULL::bytea,
    NULL::bytea,
    NULL::text,
    false
FROM late
