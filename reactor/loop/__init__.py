"""The worker loop, and what differs between Trio and asyncio."""
