"""The words of one kernel that a turn keeps: its token, its stages, its ledger, its waits. Compiled."""
