-- finished: receipts with what they freed. A merge frees nothing by itself: the layers that it replaced are kept for a
-- grace period, and their space is free once they are all gone from the store.
-- grain: one row per finished action
-- waiting_layers: replaced layers that are still stored. actual_freed_bytes: the replaced layers less the new ones;
-- null as long as layers wait, after an undo, and where the receipt does not say what was written.
CREATE VIEW finished AS
WITH replaced AS (
    SELECT action_id, unnest(replaced_layer_ids) AS layer_id FROM receipts
),

waiting AS (
    SELECT replaced.action_id, count(*) AS waiting_layers
    FROM replaced
    JOIN layers USING (layer_id)
    WHERE layers.status <> 'missing'  -- named by another layer, but not there
    GROUP BY replaced.action_id
)

SELECT
    receipts.*,
    coalesce(waiting.waiting_layers, 0) AS waiting_layers,
    CASE
        WHEN receipts.outcome = 'published' AND waiting.waiting_layers IS NULL
            THEN receipts.replaced_bytes - receipts.new_bytes
    END AS actual_freed_bytes
FROM receipts
LEFT JOIN waiting USING (action_id)
