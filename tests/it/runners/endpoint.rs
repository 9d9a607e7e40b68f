//! Endpoints over HTTP: what only they have, health, retries that wait as told, forms that are refused, idle streams.
