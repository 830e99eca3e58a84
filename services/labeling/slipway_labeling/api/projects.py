"""Projects over gRPC."""

from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.db import Repeat

from slipway_labeling.api.conversion import from_project, to_project
from slipway_labeling.usecases.projects import Projects


class ProjectsPart:
    """The methods over projects."""

    _projects: Projects

    def CreateProject(self, request: pb.CreateProjectRequest, context: Any) -> pb.Project:
        made = self._projects.create(request.project_id, from_project(request.project), Repeat.of(request))
        return to_project(made)

    def GetProject(self, request: pb.GetProjectRequest, context: Any) -> pb.Project:
        return to_project(self._projects.get(request.name))

    def ListProjects(self, request: pb.ListProjectsRequest, context: Any) -> pb.ListProjectsResponse:
        found, token = self._projects.list(request.page_size, request.page_token)
        return pb.ListProjectsResponse(projects=map(to_project, found), next_page_token=token)

    def UpdateProject(self, request: pb.UpdateProjectRequest, context: Any) -> pb.Project:
        project, paths = request.project, list(request.update_mask.paths)
        return to_project(self._projects.update(project.name, project.etag, from_project(project), paths))
