"""A migration under live reads and writes, told second by second: python -m migrations.demo"""
