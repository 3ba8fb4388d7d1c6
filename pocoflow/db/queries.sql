-- Every statement that WorkflowDB and a run's recorder execute, by name.

-- name: insert_run
INSERT INTO pf_runs (
    run_id, flow_name, status, started_at, current_node, owned, fence, token, store_name,
    parent_run_id, parent_step, graph_no
) VALUES (
    :run_id, :flow_name, :status, :started_at, :current_node, :owned, :fence, :token, :store_name,
    :parent_run_id, :parent_step, :graph_no
);

-- name: insert_graph
INSERT INTO pf_graphs (graph) VALUES (?) ON CONFLICT (graph) DO NOTHING;

-- name: graph_number
SELECT graph_no FROM pf_graphs WHERE graph = ?;

-- name: graph_of_run
SELECT g.graph FROM pf_graphs AS g JOIN pf_runs AS r ON r.graph_no = g.graph_no WHERE r.run_id = ?;

-- name: claim
-- From here on, commits of whoever claimed the run before are refused. A clock in the number keeps it
-- apart from one that was given before an older copy of the file was restored.
UPDATE pf_runs SET fence = max(fence + 1, ?) WHERE run_no = ? RETURNING fence;

-- name: owned
-- Whether the claim with this fence still holds, and the last step that it committed is there.
SELECT 1 FROM pf_runs AS r WHERE run_no = :run_no AND fence = :fence
    AND EXISTS (SELECT 1 FROM pf_steps AS s WHERE s.run_no = r.run_no AND s.step = :last);

-- name: fence
SELECT run_id, fence FROM pf_runs WHERE run_no = ?;

-- name: go_on
-- A run goes on: only one that is not completed, by whoever holds its lock.
UPDATE pf_runs SET
    status = 'running', owned = 1, completed_at = NULL, error_msg = NULL, error_type = NULL,
    traceback = NULL, cancel_requested = 0, flow_name = ?, current_node = ?, graph_no = ?,
    started_at = coalesce(started_at, ?)
WHERE run_no = ?;

-- name: last_step
SELECT max(step) AS step FROM pf_steps WHERE run_no = ?;

-- name: next_step
SELECT min(step) AS step FROM pf_steps WHERE run_no = ? AND step > ?;

-- name: insert_journal
-- Of the run whose claim still holds, see owned.
INSERT INTO pf_journal (run_no, scope, step, item, value, digest)
SELECT run_no, ?, ?, ?, ?, ? FROM pf_runs AS r WHERE run_no = ? AND fence = ?
    AND EXISTS (SELECT 1 FROM pf_steps AS s WHERE s.run_no = r.run_no AND s.step = ?)
ON CONFLICT (run_no, scope, step, item) DO UPDATE SET
    value = excluded.value, digest = excluded.digest;

-- name: journal_of_run
SELECT scope, step, item, value FROM pf_journal WHERE run_no = ? ORDER BY scope, step, item;

-- name: items_in_journal
SELECT count(*) FROM pf_journal WHERE run_no = ? AND item >= 0;

-- name: runs_beginning
SELECT run_id FROM pf_runs WHERE substr(run_id, 1, length(:text)) = :text
ORDER BY run_no DESC LIMIT :limit;

-- name: clear_journal
DELETE FROM pf_journal WHERE run_no = ? AND scope = ? AND step <= ?;

-- name: clear_branches
-- What is left of the branches of one parallel node: a branch that failed had no step to remove it.
DELETE FROM pf_journal WHERE run_no = :run_no AND substr(scope, 1, length(:forks)) = :forks;

-- name: insert_item
INSERT INTO pf_items (run_no, scope, step, item, digest, attempts) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (run_no, scope, step, item) DO UPDATE SET
    digest = excluded.digest, attempts = max(attempts, excluded.attempts);

-- name: items_of_run
SELECT scope, step, item, digest, attempts FROM pf_items WHERE run_no = :run_no
UNION SELECT scope, step, item, digest, 0 FROM pf_journal WHERE run_no = :run_no AND item >= 0;

-- name: forget_attempts
-- Whoever goes on with a run that has failed for good has all attempts again.
UPDATE pf_items SET attempts = 0 WHERE run_no = ?;

-- name: clear_items
DELETE FROM pf_items WHERE run_no = ? AND scope = ? AND step <= ?;

-- name: clear_items_of_branches
DELETE FROM pf_items WHERE run_no = :run_no AND substr(scope, 1, length(:forks)) = :forks;

-- name: insert_question
INSERT INTO pf_questions (
    run_no, scope, step, item, path, text, context, answer_schema, asked_at, deadline,
    default_answer
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: questions_of_run
SELECT q.*, r.run_id, r.flow_name FROM pf_questions AS q JOIN pf_runs AS r ON r.run_no = q.run_no
WHERE q.run_no = ? ORDER BY q.question;

-- name: open_questions
-- Those that wait for an answer, of runs that can still go on.
SELECT q.*, r.run_id, r.flow_name FROM pf_questions AS q JOIN pf_runs AS r ON r.run_no = q.run_no
WHERE q.closed = 0 AND q.answer IS NULL AND r.status NOT IN ('completed', 'cancelled')
ORDER BY q.question;

-- name: answer_question
-- The first answer counts. Returns nothing if there was one, or the run has gone on without. One that
-- the node cannot take is replaced, if it is still there.
UPDATE pf_questions SET answer = ?, answered_by = ?, answered_at = ?
WHERE question = ? AND answer IS ? AND closed = 0
    AND (SELECT status FROM pf_runs AS r WHERE r.run_no = pf_questions.run_no)
        NOT IN ('completed', 'cancelled')
RETURNING question;

-- name: settle_question
-- A default counts, also in a run that was cancelled: whoever goes on with it holds its lock.
UPDATE pf_questions SET answer = ?, answered_by = ?, answered_at = ?
WHERE question = ? AND answer IS ? AND closed = 0
RETURNING question;

-- name: take_answer
-- A run goes on with what this question has now: its answer, or none until its deadline.
UPDATE pf_questions SET taken = 1 WHERE question = ?;

-- name: open_by_run
-- How many questions wait for an answer, by the run that can still go on.
SELECT r.run_id, count(*) FROM pf_questions AS q JOIN pf_runs AS r ON r.run_no = q.run_no
WHERE q.closed = 0 AND q.answer IS NULL AND r.status NOT IN ('completed', 'cancelled')
GROUP BY q.run_no;

-- name: close_questions
UPDATE pf_questions SET closed = 1 WHERE run_no = ? AND scope = ? AND step <= ? AND closed = 0;

-- name: close_branches
UPDATE pf_questions SET closed = 1
WHERE run_no = :run_no AND substr(scope, 1, length(:forks)) = :forks AND closed = 0;

-- name: insert_pause
INSERT INTO pf_pauses (run_no, scope, step, prepared, changes) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_no, scope, step) DO UPDATE SET
    prepared = excluded.prepared, changes = excluded.changes;

-- name: pauses_of_run
SELECT scope, step, prepared, changes FROM pf_pauses WHERE run_no = ?;

-- name: clear_pauses
DELETE FROM pf_pauses WHERE run_no = ? AND scope = ? AND step <= ?;

-- name: clear_pauses_of_branches
DELETE FROM pf_pauses WHERE run_no = :run_no AND substr(scope, 1, length(:forks)) = :forks;

-- name: pause_run
UPDATE pf_runs SET
    status = 'paused', completed_at = NULL, total_steps = ?, current_node = ?, owned = 0
WHERE run_no = ?;

-- name: cancel_paused
UPDATE pf_runs SET status = 'cancelled', completed_at = ?, cancel_requested = 1
WHERE run_no = ? AND status = 'paused' RETURNING total_steps;

-- name: runs_to_recover
-- Runs of a flow whose process may be gone, those that a reader has already found so, and those that
-- waited for an answer which is there, or will not come any more; one of them, or all.
SELECT * FROM pf_runs
WHERE flow_name = :flow AND run_no = coalesce(:run_no, run_no) AND (
    (status = 'running' AND owned = 1)
    OR (status = 'failed' AND error_type = 'Interrupted' AND EXISTS (
        SELECT 1 FROM pf_positions AS p WHERE p.run_no = pf_runs.run_no
    ))
    OR (status = 'paused' AND EXISTS (
        SELECT 1 FROM pf_questions AS q
        WHERE q.run_no = pf_runs.run_no AND q.closed = 0 AND q.taken = 0
            AND (q.answer IS NOT NULL OR q.deadline <= :now)
    ))
)
ORDER BY run_no;

-- name: run_by_id
SELECT * FROM pf_runs WHERE run_id = ?;

-- name: runs_newest_first
-- A list has the beginnings of long texts only.
SELECT
    run_id, flow_name, status, started_at, completed_at, total_steps,
    substr(current_node, 1, 1000) AS current_node, substr(error_msg, 1, 20000) AS error_msg,
    error_type, substr(traceback, 1, 20000) AS traceback, run_no, owned, fence, token, store_name,
    cancel_requested, parent_run_id, parent_step, graph_no
FROM pf_runs ORDER BY run_no DESC LIMIT ?;

-- name: runs_matching
-- A page of the runs before one, newest first; NULL matches every status, flow, start or text.
SELECT
    run_id, flow_name, status, started_at, completed_at, total_steps,
    substr(current_node, 1, 1000) AS current_node, substr(error_msg, 1, 20000) AS error_msg,
    error_type, substr(traceback, 1, 20000) AS traceback, run_no, owned, fence, token, store_name,
    cancel_requested, parent_run_id, parent_step, graph_no
FROM pf_runs
WHERE run_no < :before
    AND (:status IS NULL OR status IN (:status, :or_status))
    AND (:flow IS NULL OR flow_name = :flow)
    AND (:since IS NULL OR started_at >= :since)
    AND (:text IS NULL OR instr(lower(
        run_id || char(10) || flow_name || char(10) || coalesce(current_node, '') || char(10)
        || coalesce(error_type, '') || char(10) || coalesce(error_msg, '') || char(10)
        || coalesce(parent_run_id, '')
    ), lower(:text)))
ORDER BY run_no DESC LIMIT :limit;

-- name: request_cancel
-- Ask whoever runs the run to stop after the step that it is at.
UPDATE pf_runs SET cancel_requested = 1 WHERE run_id = ? AND status = 'running' RETURNING run_no;

-- name: counts_by_flow
-- How many runs of each status each flow has.
SELECT flow_name, status, count(*) AS runs FROM pf_runs GROUP BY flow_name, status;

-- name: runs_with_owner
-- The runs that are stored as running and belong to a process, which may be gone.
SELECT run_no, flow_name FROM pf_runs WHERE status = 'running' AND owned = 1;

-- name: node_began
-- When the node that a run is at began.
SELECT ts FROM pf_events
WHERE id BETWEEN ? AND ? AND event = 'node_start'
ORDER BY id DESC LIMIT 1;

-- name: forks_of_run
SELECT run_id, parent_step, status FROM pf_runs WHERE parent_run_id = ? ORDER BY run_no;

-- name: progress
-- The end of a step that is not the last, if the claim still holds, see owned. Returns whether
-- somebody asked the run to stop, and whether it still reads as one that a process works on.
UPDATE pf_runs AS r SET total_steps = ?, current_node = ? WHERE run_no = ? AND fence = ?
    AND EXISTS (SELECT 1 FROM pf_steps AS s WHERE s.run_no = r.run_no AND s.step = ?)
RETURNING cancel_requested, owned;

-- name: works_on
-- A reader took the run for interrupted, and it is not.
UPDATE pf_runs SET status = 'running', owned = 1, error_msg = NULL, error_type = NULL
WHERE run_no = ?;

-- name: standing
SELECT status, total_steps, cancel_requested FROM pf_runs WHERE run_no = ?;

-- name: finish
-- The end of a run, whichever way, if the claim still holds, see owned; the lock is given back after
-- it.
UPDATE pf_runs SET
    status = :status, completed_at = :now, total_steps = :steps,
    current_node = coalesce(:node, current_node), error_type = :error_type,
    error_msg = :error_msg, traceback = :traceback, owned = 0
WHERE run_no = :run_no AND fence = :fence
    AND EXISTS (SELECT 1 FROM pf_steps AS s WHERE s.run_no = :run_no AND s.step = :last);

-- name: interrupted
-- Persist what a reader derives: the process of this run is gone.
UPDATE pf_runs SET status = 'failed', error_msg = ?, error_type = ?, owned = 0
WHERE run_no = ? AND status = 'running' AND owned = 1;

-- name: close_running
-- Rows that 0.2.1 left as running, of which no process is at work any more.
UPDATE pf_runs SET status = 'failed', error_msg = ?, error_type = 'Interrupted'
WHERE status = 'running';

-- name: insert_event
INSERT INTO pf_events (
    id, run_id, step, node_name, event, action, elapsed_ms, error_msg, ts, attempt, error_type,
    traceback, path
) VALUES (
    (SELECT coalesce(max(id), ?) + 1 FROM pf_events WHERE id BETWEEN ? AND ?),
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: events_of_run
SELECT * FROM pf_events WHERE id BETWEEN ? AND ? ORDER BY id;

-- name: insert_step
INSERT INTO pf_steps (run_no, step, node_name, created_at) VALUES (?, ?, ?, ?);

-- name: replace_step
INSERT INTO pf_steps (run_no, step, node_name, created_at) VALUES (?, ?, ?, ?)
ON CONFLICT (run_no, step) DO UPDATE SET
    node_name = excluded.node_name, created_at = excluded.created_at;

-- name: steps_of_run
SELECT step, node_name, created_at FROM pf_steps WHERE run_no = ? AND step >= 0 ORDER BY step;

-- name: has_step
SELECT 1 FROM pf_steps WHERE run_no = ? AND step = ?;

-- name: insert_key
INSERT INTO pf_keys (run_no, key_no, key, scope) VALUES (?, ?, ?, ?);

-- name: keys_of_run
SELECT key, key_no, scope FROM pf_keys WHERE run_no = ? ORDER BY key_no;

-- name: insert_value
INSERT INTO pf_values (run_no, key_no, step, op, value) VALUES (?, ?, ?, ?, ?);

-- name: delete_value
DELETE FROM pf_values WHERE run_no = ? AND key_no = ? AND step = ?;

-- name: delete_values
DELETE FROM pf_values WHERE run_no = ? AND step = ?;

-- name: values_at
-- For each key: its last whole value at or before the step, and everything appended to it since.
SELECT k.key, v.op, v.value
FROM pf_keys AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND k.scope = '' AND v.step <= :step AND v.step >= (
    SELECT b.step FROM pf_values AS b
    WHERE b.run_no = k.run_no AND b.key_no = k.key_no AND b.step <= :step AND b.op <> 1
    ORDER BY b.step DESC LIMIT 1
)
ORDER BY k.key_no, v.step;

-- name: stored_at
-- As values_at, with the step that wrote each part and no more of a long one than its beginning.
SELECT
    k.key, v.op, v.step, length(v.value) AS size,
    CASE WHEN :limit IS NULL OR v.op = 3 THEN v.value ELSE substr(v.value, 1, :limit) END AS value
FROM pf_keys AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND k.scope = '' AND v.step <= :step AND v.step >= (
    SELECT b.step FROM pf_values AS b
    WHERE b.run_no = k.run_no AND b.key_no = k.key_no AND b.step <= :step AND b.op <> 1
    ORDER BY b.step DESC LIMIT 1
)
ORDER BY k.key_no, v.step;

-- name: changes_of_run
-- Every change of the store, in the order of the steps; step -1 is the store at the beginning.
SELECT s.step, s.node_name, s.created_at, k.key, k.scope, v.op, v.value
FROM pf_steps AS s
LEFT JOIN pf_values AS v ON v.run_no = s.run_no AND v.step = s.step
LEFT JOIN pf_keys AS k ON k.run_no = v.run_no AND k.key_no = v.key_no
WHERE s.run_no = ? ORDER BY s.step, k.key_no;

-- name: values_of_branches
-- The same for the keys of every branch of one parallel node, by branch. What is appended there may
-- have no whole value before it: it was appended to what the list was at the fork.
SELECT k.scope, k.key, k.key_no, v.op, v.value
FROM pf_keys AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND substr(k.scope, 1, length(:fork)) = :fork
    AND v.step <= :step AND v.step >= coalesce((
        SELECT b.step FROM pf_values AS b
        WHERE b.run_no = k.run_no AND b.key_no = k.key_no AND b.step <= :step AND b.op <> 1
        ORDER BY b.step DESC LIMIT 1
    ), 0)
ORDER BY k.scope, k.key_no, v.step;

-- name: insert_position
INSERT INTO pf_positions (run_no, step, scope, count, node, path, action)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: position_at
-- The last position of the run's own scope, if a step left any.
SELECT step, path, node FROM pf_positions
WHERE run_no = :run_no AND step <= :step AND scope = ''
    AND EXISTS (SELECT 1 FROM pf_positions WHERE run_no = :run_no AND step = :step)
ORDER BY step DESC LIMIT 1;

-- name: positions_of_branches
SELECT scope, count, path, node, action FROM pf_positions
WHERE run_no = ? AND step > ? AND step <= ? ORDER BY step;

-- name: positions_of_run
SELECT step, scope, path, node FROM pf_positions WHERE run_no = ?;

-- name: rename_position
UPDATE pf_positions SET path = ?, node = ? WHERE run_no = ? AND step = ? AND scope = ?;

-- name: places_of_questions
SELECT question, path FROM pf_questions WHERE run_no = ? AND closed = 0;

-- name: rename_question
UPDATE pf_questions SET path = ? WHERE question = ?;

-- name: resumes_of_run
-- How often somebody has gone on with a run.
SELECT count(*) FROM pf_events WHERE id BETWEEN ? AND ? AND event = 'flow_resume';

-- name: store_json
SELECT store_json FROM pf_checkpoints WHERE run_id = ? AND step = ?;

-- name: runs_to_prune
-- Every run or those of a flow, newest first, with the time when something last happened in it.
SELECT run_no, status, owned, coalesce(
    completed_at,
    (SELECT ts FROM pf_events
     WHERE id BETWEEN run_no << 32 AND (run_no + 1 << 32) - 1 ORDER BY id DESC LIMIT 1),
    started_at,
    ''
) AS last
FROM pf_runs WHERE :flow IS NULL OR flow_name = :flow
ORDER BY run_no DESC;

-- name: run_by_number
SELECT status, owned, run_no FROM pf_runs WHERE run_no = ?;

-- name: delete_run
DELETE FROM pf_runs WHERE run_no = ?;

-- name: delete_unused_graphs
DELETE FROM pf_graphs WHERE graph_no NOT IN (
    SELECT graph_no FROM pf_runs WHERE graph_no IS NOT NULL
);
