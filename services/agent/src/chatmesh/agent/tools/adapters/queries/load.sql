-- One call with its approval.
SELECT
    c.*, a.id AS a_id, a.roles AS a_roles, a.deadline_ms AS a_deadline_ms, a.state AS a_state, a.arguments AS a_arguments, a.digest AS a_digest, a.answered_by AS a_answered_by, a.reason AS a_reason, a.final_arguments AS a_final_arguments, a.final_digest AS a_final_digest
FROM tool_calls AS c
LEFT JOIN tool_approvals AS a USING (key)
WHERE c.key = $1
