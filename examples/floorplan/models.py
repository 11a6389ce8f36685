"""What the app wants back from the model: the analysis of one floor plan.

The order of the fields is the order in which a model writes them, so facts stand before the
verdicts that rest on them. Every field is required and no object is open: the strict subset of
JSON Schema that OpenAI's structured outputs accept.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

RoomKind = Literal[
    "거실", "침실", "주방", "욕실", "현관", "복도", "발코니", "드레스룸", "서재", "다용도실"
]
Verdict = Literal["적합", "미달", "기준없음"]
Grade = Literal["A", "B", "C"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Room(Strict):
    """한 공간의 분석"""

    id: str = Field(description="입력에 적힌 공간 기호")
    kind: RoomKind = Field(description="공간의 종류")
    windows: int = Field(description="창의 수")
    name: str = Field(description="입력에 적힌 공간 이름")
    area_m2: float = Field(description="면적(㎡)")
    required_m2: float | None = Field(description="이 종류에 요구되는 최소 면적(㎡), 없으면 null")
    verdict: Verdict = Field(description="최소 면적 기준에 대한 판정")
    doors: int = Field(description="문의 수")


class Check(Strict):
    """한 공간을 기준 하나에 비추어 본 결과"""

    room: str = Field(description="공간 기호")
    actual: float = Field(description="실제 값: 면적 또는 창의 수")
    ok: bool = Field(description="기준을 지켰는가")


class ComplianceItem(Strict):
    """기준 하나의 준수 여부"""

    criterion: int = Field(description="입력에 적힌 기준 번호")
    rule: str = Field(description="기준의 이름")
    value: float = Field(description="기준값")
    kind: RoomKind = Field(description="기준이 적용되는 공간의 종류")
    checks: list[Check] = Field(description="그 종류의 공간마다 하나씩, 입력 순서대로")
    passed: bool = Field(description="모두 기준을 지켰는가")
    reason: str = Field(description="판정의 이유")


class Compliance(Strict):
    """기준 준수"""

    items: list[ComplianceItem] = Field(description="기준별 결과, 입력의 기준 순서대로")
    failed_count: int = Field(description="지키지 못한 기준의 수")
    compliant: bool = Field(description="모든 기준을 지켰는가")


class Recommendation(Strict):
    """한 공간에 대한 개선 권고"""

    room: str = Field(description="공간 기호")
    name: str = Field(description="공간 이름")
    action: str = Field(description="할 일")


class DesignEvaluation(Strict):
    """설계 평가: 근거를 먼저, 등급을 다음에"""

    dark_rooms: list[str] = Field(description="창이 없는 거실과 침실의 기호")
    daylight: Grade = Field(description="채광 등급")
    living_doors: int = Field(description="거실의 문의 수")
    circulation: Grade = Field(description="동선 등급")
    entrance_doors: list[str] = Field(description="현관에서 문으로 이어지는 공간의 기호")
    privacy: Grade = Field(description="사생활 등급: 현관에서 침실로 바로 이어지면 C")
    small_rooms: list[str] = Field(description="최소 면적에 미달하는 공간의 기호")
    adequacy: Grade = Field(description="면적 충족 등급")
    overall: Grade = Field(description="종합 등급")
    strengths: list[str] = Field(description="장점")
    recommendations: list[Recommendation] = Field(description="개선 권고")


class Summary(Strict):
    """요약"""

    room_count: int = Field(description="공간의 수")
    bedroom_count: int = Field(description="침실의 수")
    bathroom_count: int = Field(description="욕실의 수")
    headline: str = Field(description="한 문장 요약")


class FloorPlanAnalysis(Strict):
    """평면도 분석 결과"""

    plan_id: str = Field(description="평면도 번호")
    rooms: list[Room] = Field(description="공간별 분석, 입력 순서대로")
    compliance: Compliance = Field(description="기준 준수 결과")
    design_evaluation: DesignEvaluation = Field(description="설계 평가")
    summary: Summary = Field(description="요약")
