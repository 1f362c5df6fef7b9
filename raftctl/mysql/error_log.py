"""What mysqld says in its error log about its own data, read through SQL.

Manual: https://dev.mysql.com/doc/refman/8.4/en/performance-schema-error-log-table.html
"""

from __future__ import annotations

from raftctl.mysql.client import Connection

# The table also holds what was in the file before this start: the last "mysqld ... starting as process" tells them
# apart. It is missing when the table is full; then everything left is of this start. LOGGED is the table's key and
# always grows: a clock that was set back changes nothing (measured). What IMPORT TABLESPACE refuses is a warning. Two
# codes carry the word corrupt in another message than their own: a page of a later state than the redo log
# (ER_IB_MSG_146), and a redo log that ends before the newest page (ER_IB_MSG_737).
_CORRUPTION = """
SELECT ERROR_CODE AS code, DATA AS text FROM performance_schema.error_log
WHERE SUBSYSTEM = 'InnoDB' AND PRIO = 'Error'
  AND (ERROR_CODE IN ('MY-011971', 'MY-012562') OR DATA LIKE '%%corrupt%%')
  AND LOGGED >= COALESCE((SELECT MAX(LOGGED) FROM performance_schema.error_log WHERE ERROR_CODE = 'MY-010116'), 0)
ORDER BY LOGGED LIMIT 1
"""
_TEXT_MAX = 300


def innodb_corruption(conn: Connection) -> str:
    """The first thing that InnoDB said since its start about damaged data, "" when it said nothing.

    Nothing is read from tables, so nothing that nobody read is found. Raises MySQLError."""
    rows = conn.query(_CORRUPTION)
    if not rows:
        return ""
    text = " ".join(str(rows[0]["text"]).split())
    return f"{rows[0]['code']}: {text[:_TEXT_MAX]}"
