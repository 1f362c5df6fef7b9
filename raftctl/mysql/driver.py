"""PyMySQL without `cryptography`, which costs every process 10 MB.

PyMySQL would use it for passwords sent over plain TCP. Our connections are unix sockets and TLS (`client.connect`),
where it sends them as they are. Whoever else needs `cryptography` imports it as usual.
"""

from __future__ import annotations

import sys

_HEAVY = "cryptography"

if _HEAVY in sys.modules:
    import pymysql
else:
    sys.modules[_HEAVY] = None  # type: ignore[assignment]  # makes its import fail, which PyMySQL is prepared for
    try:
        import pymysql
    finally:
        del sys.modules[_HEAVY]

__all__ = ["pymysql"]
