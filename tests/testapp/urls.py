from django.contrib import admin
from django.urls import path

from testapp import views
from testapp.trusted import views as trusted

urlpatterns = [
    path("admin/", admin.site.urls),
    path("json/", views.json),
    path("row/<int:pk>/", views.row),
    path("template/", views.template),
    path("form/", trusted.form),
    path("trusted/", trusted.where),
    path("untrusted/", views.where),
    path("class/", views.Where.as_view()),
    path("async-class/", views.AsyncWhere.as_view()),
    path("stream/", views.stream),
    path("slow/", views.slow),
    path("sleep/", views.sleep),
    path("fail/", views.fail),
    path("write/", views.write),
    path("write-now/", views.write_now),
]
