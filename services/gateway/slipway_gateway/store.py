"""Tables and Store of the gateway: users, API tokens, the signing key."""

from datetime import datetime

from slipway_runtime.db import Database
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from slipway_gateway.domain.identity import ApiToken, User

metadata = MetaData()
users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("roles", JSON, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expire_time", DateTime(timezone=True)),
    Column("revoke_time", DateTime(timezone=True)),
    Column("last_used_time", DateTime(timezone=True)),
    Column("creator", Text),
    Column("request_id", Text),
)
signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("pem", LargeBinary, nullable=False),
)


class Store:
    """Reads and writes within the transaction of its caller."""

    def __init__(self, database: Database) -> None:
        self.transaction = database.transaction

    def put_user(
        self, connection: Connection, user_id: str, display_name: str, roles: tuple[str, ...]
    ) -> User:
        """Create the user, or set name and roles of the one there."""
        values = {"display_name": display_name, "roles": list(roles)}
        statement = insert(users).values(id=user_id, **values)
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=values)
        return _user(connection.execute(statement.returning(users)).one())

    def user(self, connection: Connection, user_id: str) -> User | None:
        """Return one user."""
        row = connection.execute(select(users).where(users.c.id == user_id)).one_or_none()
        return None if row is None else _user(row)

    def list_users(self, connection: Connection, after: str, limit: int) -> list[User]:
        """Return users by id."""
        query = select(users).where(users.c.id > after).order_by(users.c.id).limit(limit)
        return [_user(row) for row in connection.execute(query)]

    def user_ids(self, connection: Connection) -> list[str]:
        """Return the ids of all users, for near matches."""
        return list(connection.execute(select(users.c.id).order_by(users.c.id).limit(1000)).scalars())

    def add_token(
        self,
        connection: Connection,
        token: ApiToken,
        secret_hash: bytes,
        *,
        replace: bool = False,
        asked: tuple[str, str] = ("", ""),
    ) -> ApiToken:
        """Keep a token's hash; with `replace` a token of that hash stays as it is.

        Args:
            connection: The transaction.
            token: What is added.
            secret_hash: Of the secret.
            replace: A token with this hash may be there already.
            asked: Who asked for it, and under which request_id; empty for none.
        """
        statement = insert(tokens).values(
            id=token.id,
            user_id=token.user,
            display_name=token.display_name,
            secret_hash=secret_hash,
            expire_time=token.expire_time,
            creator=asked[0] or None,
            request_id=asked[1] or None,
        )
        if replace:
            statement = statement.on_conflict_do_nothing(index_elements=["secret_hash"])
        row = connection.execute(statement.returning(tokens)).one_or_none()
        return token if row is None else _token(row)

    def token_asked(self, connection: Connection, creator: str, request_id: str) -> ApiToken | None:
        """Return the token that this request made, if it did; the request is this transaction's now."""
        turn = func.hashtextextended(f"{creator} {request_id}", 0)
        connection.execute(select(func.pg_advisory_xact_lock(turn)))
        query = select(tokens).where(tokens.c.creator == creator, tokens.c.request_id == request_id)
        row = connection.execute(query).one_or_none()
        return None if row is None else _token(row)

    def give_secret(self, connection: Connection, token_id: str, secret_hash: bytes) -> ApiToken:
        """Set another secret; the one before is good no more."""
        statement = tokens.update().where(tokens.c.id == token_id).values(secret_hash=secret_hash)
        return _token(connection.execute(statement.returning(tokens)).one())

    def token_by_hash(self, connection: Connection, secret_hash: bytes) -> tuple[ApiToken, User] | None:
        """Return the token and its user, and note the use."""
        used = tokens.update().where(tokens.c.secret_hash == secret_hash).values(last_used_time=func.now())
        row = connection.execute(used.returning(tokens)).one_or_none()
        if row is None:
            return None
        user = self.user(connection, row.user_id)
        return None if user is None else (_token(row), user)

    def token(self, connection: Connection, token_id: str) -> ApiToken | None:
        """Return one token."""
        row = connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
        return None if row is None else _token(row)

    def list_tokens(self, connection: Connection, user_id: str, after: str, limit: int) -> list[ApiToken]:
        """Return tokens by id; those of one user when named."""
        query = select(tokens).where(tokens.c.id > after).order_by(tokens.c.id).limit(limit)
        if user_id:
            query = query.where(tokens.c.user_id == user_id)
        return [_token(row) for row in connection.execute(query)]

    def revoke_token(self, connection: Connection, token_id: str) -> ApiToken:
        """Set the time of revocation, once."""
        when: object = func.coalesce(tokens.c.revoke_time, func.now())
        statement = tokens.update().where(tokens.c.id == token_id).values(revoke_time=when)
        return _token(connection.execute(statement.returning(tokens)).one())

    def signing_key(self, connection: Connection, candidate: bytes) -> bytes:
        """Return the key that all replicas sign with; the first candidate wins."""
        statement = insert(signing_keys).values(id="current", pem=candidate)
        connection.execute(statement.on_conflict_do_nothing(index_elements=["id"]))
        query = select(signing_keys.c.pem).where(signing_keys.c.id == "current")
        return bytes(connection.execute(query).scalar_one())

    def now(self, connection: Connection) -> datetime:
        """Return the database's clock."""
        return connection.execute(select(func.now())).scalar_one()


def _user(row: Row[tuple[object, ...]]) -> User:
    return User(row.id, row.display_name, tuple(row.roles), row.create_time)


def _token(row: Row[tuple[object, ...]]) -> ApiToken:
    return ApiToken(
        id=row.id,
        user=row.user_id,
        display_name=row.display_name,
        create_time=row.create_time,
        expire_time=row.expire_time,
        revoke_time=row.revoke_time,
        last_used_time=row.last_used_time,
    )
