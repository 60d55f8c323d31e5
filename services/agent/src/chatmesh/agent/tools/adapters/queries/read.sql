-- Part of a large result, in characters.
SELECT substring(content FROM $2 + 1 FOR $3) AS part FROM tool_results
WHERE reference = $1
