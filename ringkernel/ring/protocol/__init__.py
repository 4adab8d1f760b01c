"""Cursors, doorbells and their memory: how one side publishes, and another one sees it. Compiled."""
