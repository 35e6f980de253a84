"""What KubeRay 1.5 reads of a RayService, as a JSON schema, as far as `cluster/` uses it.

Written after `ray-operator/apis/ray/v1/rayservice_types.go` and `raycluster_types.go` of ray-project/kuberay, and the
Kubernetes API of a pod. Fields that are there and are not read any more (`serviceUnhealthySecondThreshold`,
`deploymentUnhealthySecondThreshold`) are left out on purpose.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}
_QUANTITY = {"type": ["string", "integer"], "pattern": r"^\d+(m|Mi|Gi)?$"}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    fields = {"properties": properties, "required": required.split(), "additionalProperties": False}
    return {"type": "object", **fields}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


_RESOURCES = {"type": "object", "additionalProperties": _QUANTITY}
_PORT = _object("containerPort name", containerPort=_COUNT, name={"type": "string", "maxLength": 15})
_CONTAINER = _object(
    "name image resources",
    **{"name": _TEXT, "image": {"type": "string", "pattern": r":\d+\.\d+\.\d+"}, "ports": _list(_PORT)},
    env=_list(_object("name", name=_TEXT, value=_TEXT, valueFrom={"type": "object"})),
    securityContext=_object(allowPrivilegeEscalation=_FLAG, capabilities=_object(drop=_list(_TEXT))),
    lifecycle=_object(preStop=_object(exec=_object("command", command=_list(_TEXT)))),
    resources=_object(requests=_RESOURCES, limits=_RESOURCES),
    volumeMounts=_list(_object("name mountPath", name=_TEXT, mountPath=_TEXT)),
)
_POLICY = {"fsGroupChangePolicy": {"enum": ["OnRootMismatch", "Always"]}}
_CLAIM = _object("claimName", claimName=_TEXT)
_EMPTY = _object(medium={"enum": ["", "Memory"]}, sizeLimit=_QUANTITY)
_POD_SPEC = _object(
    "containers",
    **{"containers": _list(_CONTAINER), "terminationGracePeriodSeconds": _COUNT},
    securityContext=_object(runAsNonRoot=_FLAG, runAsUser=_COUNT, fsGroup=_COUNT, **_POLICY),
    tolerations=_list(_object(key=_TEXT, operator={"enum": ["Exists", "Equal"]}, effect=_TEXT)),
    volumes=_list(_object("name", name=_TEXT, persistentVolumeClaim=_CLAIM, emptyDir=_EMPTY)),
)
_START = {"type": "object", "additionalProperties": _TEXT}  # numbers, too: KubeRay refuses what is no string
_GROUP = {"rayStartParams": _START, "template": _object("spec", spec=_POD_SPEC)}
_REPLICAS = {"replicas": _COUNT, "minReplicas": _COUNT, "maxReplicas": _COUNT}
_PASSWORD = _object("secretKeyRef", secretKeyRef=_object("name key", name=_TEXT, key=_TEXT))
_REDIS = {"redisAddress": _TEXT, "redisPassword": _object(value=_TEXT, valueFrom=_PASSWORD)}
_CLUSTER = _object(
    "headGroupSpec",
    **{"rayVersion": _TEXT, "enableInTreeAutoscaling": _FLAG, "autoscalerOptions": _object(idleTimeoutSeconds=_COUNT)},
    authOptions=_object(mode={"enum": ["disabled", "token"]}),
    gcsFaultToleranceOptions=_object("redisAddress", externalStorageNamespace=_TEXT, **_REDIS),
    headGroupSpec=_object("rayStartParams template", **_GROUP),
    workerGroupSpecs=_list(_object("groupName template", groupName=_TEXT, **_GROUP, **_REPLICAS)),
)
_UPGRADE = {"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]}
RAY_SERVICE = _object(
    "apiVersion kind metadata spec",
    **{"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": "RayService"}, "metadata": _object("name", name=_TEXT)},
    spec=_object(
        "rayClusterConfig serveConfigV2",
        **{"serveConfigV2": _TEXT, "rayClusterConfig": _CLUSTER, "rayClusterDeletionDelaySeconds": _COUNT},
        excludeHeadPodFromServeSvc=_FLAG,
        upgradeStrategy=_object("type", type=_UPGRADE),
    ),
)
