"""Notifications: events, who is told of them, and how e-mails and webhooks are delivered.

events       the registry of events and channels
outbox       writes notifications and deliveries in the transaction of what has happened
preferences  the channels and the language of each user
webhooks     the verbs of webhooks
payloads     what is sent, by format and in the language of its recipient
sending      one HTTP request to an address that may be called
delivery     sends what is due, once at a time, and tries again
"""
