-- What was done to an object, by whom, and what came of it. One row per request and object.
CREATE VIEW IF NOT EXISTS touched AS
SELECT event_time, session_id, seq, node, workload, agent, principal, target, protocol, arrayJoin(objects) AS object,
       effects, toString(decision) AS verdict, rule, reason, statement
FROM fact WHERE kind = 'request';

-- Who was answered from an object, how many rows they got and what was masked on the way. One row per answer and object.
CREATE VIEW IF NOT EXISTS seen AS
SELECT r.event_time AS event_time, r.session_id AS session_id, r.seq AS seq, r.workload AS workload, r.agent AS agent,
       r.principal AS principal, r.target AS target, arrayJoin(q.objects) AS object, r.rows AS result_rows,
       r.masked_values AS masked_values, r.mask_rules AS mask_rules, r.status AS status, q.statement AS statement
FROM fact AS r INNER JOIN fact AS q ON r.session_id = q.session_id AND r.reply_to = q.seq
WHERE r.kind = 'reply' AND q.kind = 'request';

-- Everything that was held, and what a reviewer said of it; undecided holds have an empty outcome.
CREATE VIEW IF NOT EXISTS held AS
SELECT q.event_time AS event_time, q.session_id AS session_id, q.seq AS seq, q.workload AS workload, q.agent AS agent,
       q.principal AS principal, q.target AS target, q.rule AS rule, q.reason AS reason, q.objects AS objects,
       q.statement AS statement, q.approval_id AS approval_id, a.outcome AS outcome, a.approver AS approver,
       a.held_ms AS held_ms
FROM fact AS q LEFT JOIN (
    SELECT session_id, reply_to, argMax(toString(decision), seq) AS outcome, argMax(approver, seq) AS approver,
           max(held_ms) AS held_ms
    FROM fact WHERE kind = 'approval' GROUP BY session_id, reply_to
) AS a ON q.session_id = a.session_id AND q.seq = a.reply_to
WHERE q.kind = 'request' AND q.decision = 'hold';

-- Denials by the rule that denied.
CREATE VIEW IF NOT EXISTS denied AS
SELECT event_time, session_id, seq, workload, agent, principal, target, rule, reason, objects, effects, shape, statement
FROM fact WHERE kind = 'request' AND decision = 'deny';
