"""gRPC: who may call, how errors travel, and the two services of agent.proto. What a call does is the business of
`migration`.
"""
