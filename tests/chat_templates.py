"""Test vocabulary: chat templates in the forms of published ones."""

from __future__ import annotations

WITH_FUNCTIONS = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{- (tool | tojson) + '\\n' }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<|AUDIO|>' if part.type == 'audio' else part.text }}
        {%- endfor %}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
"""
"""The form of the templates of Qwen's models that were taught to call."""

WITH_FUNCTIONS_UNWRITTEN = """
{%- if tools %}
    {{- '<|start_of_role|>system<|end_of_role|>Call by <|tool_call|> and a list.' }}
    {{- '<|end_of_text|>\\n' }}
    {{- '<|start_of_role|>available_tools<|end_of_role|>' }}
    {{- (tools | tojson) + '<|end_of_text|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_of_role|>' + message.role + '<|end_of_role|>' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<|audio|>' if part.type == 'audio' else part.text }}
        {%- endfor %}
    {%- endif %}
    {{- '<|end_of_text|>\\n' }}
{%- endfor %}
{{- '<|start_of_role|>assistant<|end_of_role|>' }}
"""
"""The form of Granite's, where the assistant's calls are content like any other."""

WITH_OUTPUTS_IN_CALLS = """
{%- macro string(text) %}<|"|>{{ text }}<|"|>{% endmacro %}
{%- if tools %}
    {{- '<|turn>system\\n' }}
    {%- for tool in tools %}
        {{- '<|tool>declaration:' + tool.function.name + '<tool|>' }}
    {%- endfor %}
    {{- '<turn|>\\n' }}
{%- endif %}
{%- set now = namespace(role=none) %}
{%- for message in messages if message.role != 'tool' %}
    {%- set role = 'model' if message.role == 'assistant' else message.role %}
    {{- '<|turn>' + role + '\\n' if role != 'model' or now.role not in ('model', 'tool') }}
    {%- set now.role = role %}
    {%- for call in message.tool_calls or [] %}
        {{- '<|tool_call>call:' + call.function.name + '{' }}
        {%- if call.function.arguments is string %}
            {{- call.function.arguments }}
        {%- else %}
            {%- for key, value in call.function.arguments | items %}
                {{- key + ':' + string(value) + (',' if not loop.last else '') }}
            {%- endfor %}
        {%- endif %}
        {{- '}<tool_call|>' }}
    {%- endfor %}
    {%- for call in message.tool_calls or [] %}
        {%- for output in messages if output.role == 'tool' and output.tool_call_id == call.id %}
            {%- set now.role = 'tool' %}
            {{- '<|tool_response>response:' + call.function.name + '{value:' }}
            {{- string(output.content) + '}<tool_response|>' }}
        {%- endfor %}
    {%- endfor %}
    {%- if message.content is string %}
        {{- message.content | trim }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<|audio|>' if part.type == 'audio' else part.text }}
        {%- endfor %}
    {%- endif %}
    {{- '<turn|>\\n' if now.role != 'tool' }}
{%- endfor %}
{{- '<|turn>model\\n' if now.role != 'tool' }}
"""
"""The form of Gemma 4's, where a call, its output and what is said of it are one turn."""
