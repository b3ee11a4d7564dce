"""Asks DuckDB the questions of `cargo xtask bench sql`: TABLES QUESTIONS RUNS, prints seconds and rows of each as JSON."""
import json
import sys
import time

import duckdb
from deltalake import DeltaTable

tables, questions, runs = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
connection = duckdb.connect()
for table in ("events", "videos"):
    files = DeltaTable(f"{tables}/{table}").file_uris()
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet({files})")
answers = []
for question in questions:
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        cursor = connection.execute(question)
        rows = cursor.fetchall()
        seconds.append(time.perf_counter() - start)
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, map(str, row))) for row in rows]
    answers.append({"seconds": seconds[1:], "rows": rows})
print(json.dumps(answers))
