"""What can go wrong in a call to MySQL, and what then is known about the statement.

MySQLError                    the server refused the statement: it is not done
+-- ConnectFailed             no session was obtained: nothing was done
|   +-- ServerGone            nobody listens there: the process is gone or not up yet
|   +-- ConnectTimeout        no answer in time: the host is lost, or mysqld hangs
|   +-- OfflineMode           offline_mode is ON and the account has no CONNECTION_ADMIN
|   +-- TooManyConnections
+-- AccessDenied              wrong password, locked account or missing privilege
+-- ConnectionLost            the session ended during the call: the outcome is unknown
+-- StatementTimeout          our deadline passed: the server may still carry the statement out
+-- LockWaitTimeout           the server stopped waiting for a lock: it is not done
+-- ReadOnly                  the server is read-only: it is not done
+-- NotApplied                refused by raftctl: received transactions would be discarded (rule R5)
+-- NotVerified               the server accepted the statement, and what it should bring about is not so
"""

from __future__ import annotations

from raftctl.errors import MySQLError


class ConnectFailed(MySQLError):
    """No session was obtained, so nothing was done."""


class ServerGone(ConnectFailed):
    """Nobody listens at the address: refused, or no such socket."""


class ConnectTimeout(ConnectFailed):
    """No session within the connect timeout."""


class OfflineMode(ConnectFailed):
    """The server is in offline mode and the account does not have CONNECTION_ADMIN."""


class TooManyConnections(ConnectFailed):
    """The server or the account has no connection left."""


class AccessDenied(MySQLError):
    """The account, its password or a missing privilege stops the call."""


class ConnectionLost(MySQLError):
    """The session ended: EOF, reset, KILL or shutdown. A statement under way may or may not be done."""


class StatementTimeout(MySQLError):
    """No answer before the deadline. The session is closed; the server may still carry the statement out."""


class LockWaitTimeout(MySQLError):
    """The server gave up after lock_wait_timeout or innodb_lock_wait_timeout. The statement is not done."""


class ReadOnly(MySQLError):
    """The server is read-only, which stops the statement."""


class NotApplied(MySQLError):
    """A repoint would discard transactions that were received and not yet applied (rule R5). Nothing was done."""


class NotVerified(MySQLError):
    """The server accepted the statements, and what they should bring about did not show before the deadline."""


# https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and client-error-reference.html
KIND_BY_CODE: dict[int, type[MySQLError]] = {
    0: ConnectionLost,  # PyMySQL: the socket was closed earlier
    2006: ConnectionLost,  # CR_SERVER_GONE_ERROR
    2013: ConnectionLost,  # CR_SERVER_LOST
    1053: ConnectionLost,  # ER_SERVER_SHUTDOWN
    3169: ConnectionLost,  # ER_SESSION_WAS_KILLED
    4031: ConnectionLost,  # ER_CLIENT_INTERACTION_TIMEOUT
    1040: TooManyConnections,  # ER_CON_COUNT_ERROR
    1203: TooManyConnections,  # ER_TOO_MANY_USER_CONNECTIONS
    1226: TooManyConnections,  # ER_USER_LIMIT_REACHED
    3032: OfflineMode,  # ER_SERVER_OFFLINE_MODE
    1044: AccessDenied,  # ER_DBACCESS_DENIED_ERROR
    1045: AccessDenied,  # ER_ACCESS_DENIED_ERROR
    1095: AccessDenied,  # ER_KILL_DENIED_ERROR
    1142: AccessDenied,  # ER_TABLEACCESS_DENIED_ERROR
    1227: AccessDenied,  # ER_SPECIFIC_ACCESS_DENIED_ERROR
    1698: AccessDenied,  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    3630: AccessDenied,  # ER_PERSIST_ONLY_ACCESS_DENIED_ERROR
    1820: AccessDenied,  # ER_MUST_CHANGE_PASSWORD
    3118: AccessDenied,  # ER_ACCOUNT_HAS_BEEN_LOCKED
    1205: LockWaitTimeout,  # ER_LOCK_WAIT_TIMEOUT
    1290: ReadOnly,  # ER_OPTION_PREVENTS_STATEMENT
    1836: ReadOnly,  # ER_READ_ONLY_MODE
}
