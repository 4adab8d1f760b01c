"""Rings, edges, blocks, bells: plain arrays and compiled functions. No asyncio and no threads in here."""
