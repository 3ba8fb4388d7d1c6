-- The statements, and parts of them, that differ between PostgreSQL and SQLite, by name; all others are
-- in ../queries.sql.

-- part: labels
(
    SELECT coalesce(json_object_agg(key, value ORDER BY key)::text, '{}') FROM pf_labels AS l
    WHERE l.run_no = r.run_no
) AS labels

-- part: has_labels
NOT EXISTS (
    SELECT 1 FROM json_each_text(:labels::json) AS w WHERE NOT EXISTS (
        SELECT 1 FROM pf_labels AS l
        WHERE l.run_no = r.run_no AND l.key = w.key AND l.value = w.value
    )
)

-- part: matches
(:status::text IS NULL OR status IN (:status, :or_status))
    AND (:flow::text IS NULL OR flow_name = :flow)
    AND (:thread::text IS NULL OR thread = :thread)
    AND (:since::text IS NULL OR started_at >= :since)
    AND (:text::text IS NULL OR strpos(lower(
        run_id || chr(10) || flow_name || chr(10) || coalesce(current_node, '') || chr(10)
        || coalesce(error_type, '') || chr(10) || coalesce(error_msg, '') || chr(10)
        || coalesce(parent_run_id, '') || chr(10) || coalesce(thread, '')
    ), lower(:text COLLATE "C")) > 0)

-- part: of_flow
(:flow::text IS NULL OR flow_name = :flow) AND (:thread::text IS NULL OR thread = :thread)

-- part: flows
(SELECT json_array_elements_text(:flows::json))

-- part: open
(SELECT json_array_elements_text(:open::json)::bigint)

-- part: length_of_data
json_array_length(data::json)

-- part: by_spending

-- part: by_interruption

-- part: held
EXISTS (
    SELECT 1 FROM json_array_elements(:held::json) AS h JOIN pf_labels AS l ON l.run_no = r.run_no
        AND l.key = h->>0 AND l.value = h->>1
    WHERE (h->>2)::bigint = 0 OR r.status = 'queued'
)

-- name: append_step
INSERT INTO pf_log (
    id, line, steps, step, at, note, node, path, action, elapsed, attempt, next_node, next_path, mark,
    data, error_type, error_msg, traceback, kind
)
SELECT
    (SELECT id + 1 FROM pf_log WHERE id < ? ORDER BY id DESC LIMIT 1),
    ?, ?, ?, ?, nullif(?, ''), ?, nullif(?, ''), ?, ?, ?, ?, nullif(?, ''), nullif(?, ''),
    nullif(?, ''), ?, ?, ?, ?
FROM pf_run
WHERE run_no = ? AND fence = ? AND (? OR (cancel_requested = 0 AND owned = 1))
    AND EXISTS (SELECT 1 FROM pf_log WHERE id = ?);

-- name: append_result
INSERT INTO pf_log (id, line, steps, step, at, node, data, kind)
SELECT (SELECT id + 1 FROM pf_log WHERE id < ? ORDER BY id DESC LIMIT 1), ?, ?, ?, ?, ?, ?, 3
FROM pf_run
WHERE run_no = ? AND fence = ? AND EXISTS (SELECT 1 FROM pf_log WHERE id = ?);

-- name: insert_graph
INSERT INTO pf_graphs (graph) VALUES (?) ON CONFLICT (md5(graph)) DO NOTHING;

-- name: graph_number
SELECT graph_no FROM pf_graphs WHERE md5(graph) = md5($1::text) AND graph = $1;

-- name: close_questions
WITH RECURSIVE branches AS (
    SELECT line, (data::json->>0)::bigint AS parent FROM pf_log
    WHERE id > :since AND id < :last AND kind = 9
), inside (line) AS (
    SELECT :line::bigint UNION SELECT b.line FROM branches AS b JOIN inside AS i ON b.parent = i.line
)
UPDATE pf_questions SET closed = 1
WHERE run_no = :run_no AND closed = 0 AND (:line = 0 OR line IN (SELECT line FROM inside));

-- name: run_state
-- The caller will write the row, and waits here for other writers.
SELECT status, total_steps, cancel_requested FROM pf_run WHERE run_no = ? FOR NO KEY UPDATE;

-- name: claim
UPDATE pf_run SET fence = greatest(
    fence + 1, ?, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
) WHERE run_no = ? RETURNING fence;

-- name: runs_labelled
SELECT r.*, {labels} FROM pf_labels AS f JOIN pf_listed AS r ON r.run_no = f.run_no
WHERE f.key = :key AND f.value = :value AND f.run_no < :before
    AND {matches} AND {has_labels}
ORDER BY f.run_no DESC LIMIT :limit;

-- name: insert_value_of_blob
INSERT INTO pf_value (run_no, key_no, step, op, blob) VALUES (?, ?, ?, ?, (
    SELECT id FROM pf_blob WHERE id >= $1::bigint << 32 AND id < ($1::bigint + 1) << 32
    ORDER BY id DESC LIMIT 1
));

-- name: stored_at
SELECT
    k.key, v.op,
    CASE WHEN :limit::int IS NULL OR v.op = 3 THEN v.value ELSE substr(v.value, 1, :limit) END AS value,
    v.step, length(v.value) AS size
FROM pf_key AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND k.line = 0 AND v.step <= :step AND v.step >= {last_whole}
ORDER BY k.key_no, v.step;
