"""Rings, edges, blocks, doorbells: plain arrays and compiled functions. No asyncio and no threads in here."""
