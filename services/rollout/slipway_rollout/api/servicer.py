"""The servicer: to domain, call the use case, to proto."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import grpc
from google.protobuf.message import Message
from slipway.rollout.v1 import rollout_pb2 as pb
from slipway.rollout.v1 import rollout_pb2_grpc
from slipway_runtime.rpc import timestamp

from slipway_rollout.api import messages
from slipway_rollout.domain import Endpoint, ServedVersion, ServingConfig
from slipway_rollout.engine.manifests import Placement
from slipway_rollout.usecases.endpoints import Endpoints
from slipway_rollout.usecases.lineage import Lineage
from slipway_rollout.usecases.rollouts import Rollouts

SERVICE = pb.DESCRIPTOR.services_by_name["RolloutService"].full_name


class Servicer(rollout_pb2_grpc.RolloutServiceServicer):
    """RolloutService over the use cases.

    Args:
        endpoints: The verbs on endpoints.
        rollouts: The verbs on rollouts.
        lineage: The edges.
        placement: Says the host of an endpoint.
        ready_timeout_s: Of a rollout that says none.
    """

    def __init__(
        self,
        *,
        endpoints: Endpoints,
        rollouts: Rollouts,
        lineage: Lineage,
        placement: Placement,
        ready_timeout_s: float,
    ) -> None:
        self._usecases = endpoints
        self._rollouts = rollouts
        self._lineage = lineage
        self._placement = placement
        self._ready_timeout_s = ready_timeout_s

    def CreateEndpoint(self, request: pb.CreateEndpointRequest, context: grpc.ServicerContext) -> pb.Endpoint:
        """Create."""
        asked = request.endpoint
        made = self._usecases.create_endpoint(
            request.endpoint_id,
            asked.model,
            asked.description,
            _config(asked.serving_config),
            request.request_id,
            _content(request),
        )
        return self._proto(made)

    def GetEndpoint(self, request: pb.GetEndpointRequest, context: grpc.ServicerContext) -> pb.Endpoint:
        """Get."""
        return self._proto(self._usecases.get_endpoint(request.name))

    def ListEndpoints(
        self, request: pb.ListEndpointsRequest, context: grpc.ServicerContext
    ) -> pb.ListEndpointsResponse:
        """List."""
        rows, token = self._usecases.list_endpoints(request.page_size, request.page_token)
        return pb.ListEndpointsResponse(endpoints=[self._proto(row) for row in rows], next_page_token=token)

    def UpdateEndpoint(self, request: pb.UpdateEndpointRequest, context: grpc.ServicerContext) -> pb.Endpoint:
        """Update."""
        asked = request.endpoint
        paths = tuple(request.update_mask.paths)
        return self._proto(self._usecases.update_endpoint(asked.name, asked.etag, asked.description, paths))

    def DeleteEndpoint(self, request: pb.DeleteEndpointRequest, context: grpc.ServicerContext) -> pb.Endpoint:
        """Delete."""
        content = _content(request)
        return self._proto(
            self._usecases.delete_endpoint(request.name, request.force, request.request_id, content)
        )

    def DeployVersion(self, request: pb.DeployVersionRequest, context: grpc.ServicerContext) -> pb.Endpoint:
        """Deploy."""
        content = _content(request)
        return self._proto(
            self._usecases.deploy_version(request.name, request.model_version, request.request_id, content)
        )

    def UndeployVersion(
        self, request: pb.UndeployVersionRequest, context: grpc.ServicerContext
    ) -> pb.Endpoint:
        """Undeploy."""
        content = _content(request)
        return self._proto(
            self._usecases.undeploy_version(request.name, request.model_version, request.request_id, content)
        )

    def SetSplit(self, request: pb.SetSplitRequest, context: grpc.ServicerContext) -> pb.Endpoint:
        """Set the weights."""
        weights, content = dict(request.weights), _content(request)
        return self._proto(
            self._usecases.set_split(request.name, weights, request.etag, request.request_id, content)
        )

    def SetShadow(self, request: pb.SetShadowRequest, context: grpc.ServicerContext) -> pb.Endpoint:
        """Set the mirror."""
        content = _content(request)
        return self._proto(
            self._usecases.set_shadow(
                request.name, request.subset, request.percent, request.request_id, content
            )
        )

    def WatchEndpoint(
        self, request: pb.WatchEndpointRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.Endpoint]:
        """Watch."""
        for endpoint in self._usecases.watch_endpoint(request.name, context.is_active):
            yield self._proto(endpoint)

    def CreateRollout(self, request: pb.CreateRolloutRequest, context: grpc.ServicerContext) -> pb.Rollout:
        """Create."""
        asked = messages.asked_rollout(request.rollout, self._ready_timeout_s)
        content = _content(request)
        return messages.rollout(
            self._rollouts.create_rollout(request.parent, asked, request.request_id, content)
        )

    def GetRollout(self, request: pb.GetRolloutRequest, context: grpc.ServicerContext) -> pb.Rollout:
        """Get."""
        return messages.rollout(self._rollouts.get_rollout(request.name))

    def ListRollouts(
        self, request: pb.ListRolloutsRequest, context: grpc.ServicerContext
    ) -> pb.ListRolloutsResponse:
        """List."""
        rows, token = self._rollouts.list_rollouts(request.parent, request.page_size, request.page_token)
        return pb.ListRolloutsResponse(
            rollouts=[messages.rollout(row) for row in rows], next_page_token=token
        )

    def WatchRollout(
        self, request: pb.WatchRolloutRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.Rollout]:
        """Watch."""
        for rollout in self._rollouts.watch_rollout(request.name, context.is_active):
            yield messages.rollout(rollout)

    def PauseRollout(self, request: pb.PauseRolloutRequest, context: grpc.ServicerContext) -> pb.Rollout:
        """Pause."""
        content = _content(request)
        return messages.rollout(
            self._rollouts.pause_rollout(request.name, request.reason, request.request_id, content)
        )

    def ResumeRollout(self, request: pb.ResumeRolloutRequest, context: grpc.ServicerContext) -> pb.Rollout:
        """Resume."""
        content = _content(request)
        return messages.rollout(
            self._rollouts.resume_rollout(request.name, request.endpoint_etag, request.request_id, content)
        )

    def AbortRollout(self, request: pb.AbortRolloutRequest, context: grpc.ServicerContext) -> pb.Rollout:
        """Abort."""
        content = _content(request)
        return messages.rollout(
            self._rollouts.abort_rollout(request.name, request.reason, request.request_id, content)
        )

    def FinishRollout(self, request: pb.FinishRolloutRequest, context: grpc.ServicerContext) -> pb.Rollout:
        """Finish."""
        content = _content(request)
        return messages.rollout(
            self._rollouts.finish_rollout(request.name, request.reason, request.request_id, content)
        )

    def ListVerdicts(
        self, request: pb.ListVerdictsRequest, context: grpc.ServicerContext
    ) -> pb.ListVerdictsResponse:
        """List."""
        rows, token = self._rollouts.list_verdicts(request.parent, request.page_size, request.page_token)
        return pb.ListVerdictsResponse(
            verdicts=[messages.verdict(row) for row in rows], next_page_token=token
        )

    def ListServings(
        self, request: pb.ListServingsRequest, context: grpc.ServicerContext
    ) -> pb.ListServingsResponse:
        """List."""
        rows, token = self._rollouts.list_servings(request.parent, request.page_size, request.page_token)
        return pb.ListServingsResponse(
            servings=[messages.serving(row) for row in rows], next_page_token=token
        )

    def ListChildren(
        self, request: pb.ListChildrenRequest, context: grpc.ServicerContext
    ) -> pb.ListChildrenResponse:
        """List children."""
        names, token = self._lineage.children(request.name, request.page_size, request.page_token)
        return pb.ListChildrenResponse(names=names, next_page_token=token)

    def ListParents(
        self, request: pb.ListParentsRequest, context: grpc.ServicerContext
    ) -> pb.ListParentsResponse:
        """List parents."""
        names, token = self._lineage.parents(request.name, request.page_size, request.page_token)
        return pb.ListParentsResponse(names=names, next_page_token=token)

    def _proto(self, endpoint: Endpoint) -> pb.Endpoint:
        return pb.Endpoint(
            name=endpoint.name,
            model=endpoint.model,
            description=endpoint.description,
            host=self._placement.host(endpoint),
            served_versions=[_version(version) for version in endpoint.versions],
            shadow_version=endpoint.version(endpoint.shadow).model_version if endpoint.shadow else "",
            etag=endpoint.etag,
            create_time=timestamp(endpoint.create_time),
            update_time=timestamp(endpoint.update_time),
            creator=endpoint.creator,
            serving_config=pb.ServingConfig(
                **{field.name: getattr(endpoint.config, field.name) for field in fields(ServingConfig)}
            ),
            route_warning=endpoint.route_warning,
            deleting=endpoint.deleting,
        )


def _version(version: ServedVersion) -> pb.ServedVersion:
    return pb.ServedVersion(
        model_version=version.model_version,
        subset=version.subset,
        weight=version.weight,
        state=version.state.value,
        ready_replicas=version.ready_replicas,
        replicas=version.replicas,
        error=version.error,
        create_time=timestamp(version.create_time),
    )


def _config(asked: pb.ServingConfig) -> ServingConfig:
    """Return the configuration; fields that are unset take the service's defaults."""
    given: dict[str, Any] = {descriptor.name: value for descriptor, value in asked.ListFields()}
    return ServingConfig(**given)


def _content(request: Message) -> bytes:
    return request.SerializeToString(deterministic=True)
