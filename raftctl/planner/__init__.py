"""Pure decisions. `decide(state, view)` is the leader's, `decide_local(...)` each controller's for its own mysqld.

No I/O, no clock, no randomness: what is justified now follows from the committed state and what was seen. Plans are
level-triggered: whoever looks next, after a crash or a change of leader, finds the next step from where things stand.
"""
