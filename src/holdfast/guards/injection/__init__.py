"""Injected instructions: what recognises them, and what makes those that are not recognised do less harm.

guard.py       the guard: normalised text, signs, a classifier over sentences
spotlight.py   untrusted parts are marked, so that a model can tell them from its orders
canary.py      a word of each call that betrays a prompt that was given away
tools.py       what may become of tool calls after untrusted text was read
train.py       the classifier's training from files, and its report
"""
