# SPDX-License-Identifier: Apache-2.0
"""The peers: private instances of nginx, PostgreSQL, Redis and the stack that is replaced, each as its own manual would run it for
this work, none of them sharing a file or a port with an installed one."""
import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import time

from .process import BENCH, Program, Skip, free_port, need


class Nginx(Program):
    """Answers two constant bytes to everything."""

    def __init__(self, bench):
        need("nginx")
        folder, port = bench.new_folder("nginx"), free_port()
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        path = os.path.join(folder, "nginx.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log; events {{ worker_connections 4096; }}\n"
                       f"http {{ access_log off; keepalive_requests 1000000000; {temporary}\n"
                       f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"ok\"; }} }} }}\n")
        super().__init__(["nginx", "-c", path, "-p", folder], bench.log, has_ready_line=False, port=port)
        self.http = f"127.0.0.1:{port}"


class Redis(Program):
    def __init__(self, bench, appendfsync):
        need("redis-server", "redis-cli", "redis-benchmark")
        self.port = free_port()
        super().__init__(["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", bench.new_folder("redis"), "--save", "",
                          "--appendonly", "yes", "--appendfsync", appendfsync, "--auto-aof-rewrite-percentage", "0"],
                         bench.log, has_ready_line=False, port=self.port)

    def add_rate(self, group, count, value_bytes=300):
        """XADDs a second at `group` commands a flush: so many are there when the event loop looks, each of up to 50 clients with
        an equal share in its pipeline (64 are 32 clients with 2 each), since Redis flushes once a turn of its loop."""
        clients = max(count for count in range(1, 51) if group % count == 0)
        out = subprocess.run(["redis-benchmark", "-p", str(self.port), "-c", str(clients), "-P", str(group // clients), "-n", str(count), "-r", "100000",
                              "--csv", "XADD", "stream:__rand_int__", "*", "data", "x" * value_bytes], stdout=subprocess.PIPE, text=True, check=True).stdout
        return float(out.strip().splitlines()[-1].split('","')[1])


class Postgres(Program):
    """A cluster of its own; as root it runs as the user postgres, since it refuses to be root."""

    SETTINGS = {"listen_addresses": "''", "fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB", "max_wal_size": "4GB",
                "checkpoint_timeout": "15min", "max_connections": "100", "logging_collector": "off"}

    def __init__(self, bench):
        folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not folders:
            raise Skip("postgresql is not installed")
        self.log = bench.log
        self.programs, self.folder, self.port = folders[-1], bench.new_folder("postgres"), free_port()
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.prefix = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if os.geteuid() == 0 else []
        data = os.path.join(self.folder, "data")
        if self.prefix:
            shutil.chown(self.folder, self.user, self.user)
        self.run("initdb", "-D", data, "-U", self.user, "-A", "trust", "--no-sync", stdout=bench.log, stderr=bench.log)
        settings = [word for name, value in self.SETTINGS.items() for word in ("-c", f"{name}={value}".replace("''", ""))]
        super().__init__([*self.prefix, os.path.join(self.programs, "postgres"), "-D", data, "-k", self.folder, "-p", str(self.port), *settings],
                         bench.log, has_ready_line=False, cwd=self.folder)
        self.run("pg_isready", "-q", "-h", self.folder, "-p", self.port, "-t", "30", check=False)
        for _ in range(100):
            if self.run("psql", *self.connection(), "-c", "SELECT 1", check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise Skip("PostgreSQL did not start")

    def stop(self, with_signal=signal.SIGINT):  # its fast shutdown
        super().stop(with_signal)

    def connection(self):
        return ["-h", self.folder, "-p", str(self.port), "-U", self.user, "-X", "postgres"]

    def run(self, program, *arguments, check=True, **options):
        return subprocess.run([*self.prefix, os.path.join(self.programs, program), *map(str, arguments)], check=check, cwd=self.folder, **options)

    def ask(self, statement):
        return self.run("psql", *self.connection(), "-tA", "-v", "ON_ERROR_STOP=1", "-c", statement, stdout=subprocess.PIPE, stderr=self.log, text=True).stdout.strip()

    def flushes(self):
        self.ask("SELECT pg_stat_force_next_flush()")
        return int(self.ask("SELECT wal_sync FROM pg_stat_wal"))

    def insert_rate(self, group, seconds):
        """Rows a second by pgbench with transactions of `group` rows, one client; the table as the journal's: append-only by number."""
        self.ask("CREATE TABLE IF NOT EXISTS journal (id bigserial PRIMARY KEY, conversation int NOT NULL, body bytea NOT NULL)")
        path = os.path.join(self.folder, "append.sql")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"\\set seed random(1, 100000)\nINSERT INTO journal (conversation, body) SELECT (:seed + i * 7919) % 100000, "
                       f"decode(repeat('ab', 300), 'hex') FROM generate_series(1, {group}) i;\n")
        os.chmod(path, 0o644)
        out = self.run("pgbench", "-h", self.folder, "-p", self.port, "-U", self.user, "-n", "-M", "prepared", "-c", "1", "-T", seconds, "-f", path,
                       "postgres", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        return float(next(line for line in out.splitlines() if line.startswith("tps")).split()[2]) * group


class SeedsStack(Program):
    """bench/peers/seeds_stack: Express, ioredis, pg."""

    def __init__(self, bench):
        need("node")
        folder = os.path.join(BENCH, "peers", "seeds_stack")
        modules = os.path.join(bench.peers_folder("seeds_stack"), "node_modules")
        self.install(folder, os.path.dirname(modules), modules)
        with contextlib.ExitStack() as below:  # what stands is stopped when the next does not start
            redis = below.enter_context(Redis(bench, "everysec"))
            database = below.enter_context(Postgres(bench))
            with open(os.path.join(folder, "schema.sql"), "rb") as schema:
                database.run("psql", *database.connection(), "-q", "-v", "ON_ERROR_STOP=1", stdin=schema)
            environment = {**os.environ, "NODE_PATH": modules, "NODE_ENV": "production", "REDIS_PORT": str(redis.port), "PG_SOCKET": database.folder,
                           "PG_PORT": str(database.port), "PG_USER": database.user, "PORT": str(free_port()), "PROCESSES": "2"}
            super().__init__(["node", os.path.join(folder, "server.js")], bench.log, env=environment)
            self.http, self.redis, self.database, self.below = self.ready["http"], redis, database, below.pop_all()

    @staticmethod
    def install(folder, target, modules):
        if all(os.path.isdir(os.path.join(modules, name)) for name in ("express", "ioredis", "pg")):
            return
        if os.environ.get("CIRANDA_NO_INSTALL") == "1":
            raise Skip("its node modules are not installed (CIRANDA_NO_INSTALL=1)")
        need("npm")
        shutil.copy(os.path.join(folder, "package.json"), target)
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=target, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise Skip(f"npm install failed: {done.stdout[-300:]}")

    def stop(self, *_):
        super().stop()
        self.below.close()
