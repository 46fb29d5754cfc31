"""The upstream transport: pooled HTTP/1.1 connections, phase timeouts, TLS, server-sent events."""
