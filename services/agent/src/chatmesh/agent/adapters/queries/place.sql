-- Record messages that call agents, each once for ever, in one transaction.
SELECT
    run,
    fresh,
    standing,
    target
FROM
    agent_place(
        $1::uuid [],
        $2::text [],
        $3::text [],
        $4::text [],
        $5::bigint [],
        $6::text [],
        $7::text [],
        $8::text [],
        $9::boolean [],
        $10::text []
    )
