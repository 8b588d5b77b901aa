"""The OpenAPI document: what each route takes, answers and refuses, as data beside the routes."""
