"""Events and time: the epoll loop, its busy poll, and signals as events."""
